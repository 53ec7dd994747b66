//! A plan in words: how requests are paced, and the effective config for result files.
//!
//! Always true: what decides a run's numbers is among the pairs. Called when a plan is made and when it is told.

use super::super::choices::TraceSpeed;
use super::super::units::Span;
use super::Plan;

impl Plan {
    /// How requests are paced, in words that say what the latencies mean.
    #[must_use]
    pub fn loop_words(&self) -> String {
        match (self.rate, self.trace.as_ref().map(|t| t.speed)) {
            (_, Some(TraceSpeed::Timed(factor))) => {
                format!("open loop, recorded times at {factor}x")
            }
            (Some(rate), _) => format!("open loop at {rate}/s ({} arrivals)", self.arrival),
            (None, _) if self.search.is_some() => "open loop at the rates of the search".into(),
            (None, _) => {
                "closed loop: latency is of the requests that were sent, not of a schedule".into()
            }
        }
    }

    pub(super) fn describe(
        &self,
        mix: &str,
        values: &str,
        keys: &str,
        ttl: Option<&str>,
    ) -> Vec<(String, String)> {
        let endpoints: Vec<_> = self.endpoints.iter().map(|e| e.name.as_str()).collect();
        let mut pairs = vec![
            ("endpoints", endpoints.join(",")),
            ("protocol", self.protocol.to_string()),
            ("tls", self.tls.is_some().to_string()),
            ("loop", self.loop_words()),
            ("duration", Span(self.duration).to_string()),
            ("warmup", Span(self.warmup).to_string()),
            ("threads", self.threads.to_string()),
            ("connections", self.connections.to_string()),
            ("pipeline_depth", self.pipeline_depth.to_string()),
            ("request_timeout", Span(self.request_timeout).to_string()),
            ("timestamps", self.timestamps.to_string()),
            ("verify", self.verify.to_string()),
            ("seed", self.seed.to_string()),
            ("key_length", keys.to_owned()),
            ("value_length", values.to_owned()),
            ("ttl", ttl.unwrap_or("none").to_owned()),
            ("prefill", self.prefill.to_string()),
            ("backfill_on_miss", self.backfill_on_miss.to_string()),
        ];
        if let Some(trace) = &self.trace {
            pairs.push(("trace", trace.path.display().to_string()));
        } else {
            pairs.push(("commands", mix.to_owned()));
            pairs.push(("keys", self.key_count.to_string()));
            pairs.push(("distribution", self.law.to_string()));
        }
        if !self.cpus.is_empty() {
            pairs.push(("cpu_list", format!("{:?}", self.cpus)));
        }
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}
