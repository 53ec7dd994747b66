//! From rounds to medians and ratios, as a table for people and as JSON for programs.
//! A ratio is the median of the ratios within each round: both sides met the same noise.

use super::server::Kind;
use serde_json::{Value, json};
use std::fmt::Write;

/// What each server used in each round of one workload.
pub(crate) struct Rows {
    /// The workload's name.
    pub(crate) name: &'static str,
    /// The workload in words.
    pub(crate) title: String,
    /// Servers with their rounds, nanoseconds of server CPU per request; ours is first.
    pub(crate) servers: Vec<(Kind, Vec<f64>)>,
    /// What the project wants: at most this many times the CPU of that server.
    pub(crate) wanted: Vec<(Kind, f64)>,
}

impl Rows {
    /// Ours over theirs, round by round, then the median.
    fn ratio(&self, other: Kind) -> Option<f64> {
        let rounds = |kind| self.servers.iter().find(|(have, _)| *have == kind).map(|(_, ns)| ns);
        let (ours, theirs) = (rounds(Kind::Crucible)?, rounds(other)?);
        let ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    fn wanted_of(&self, other: Kind) -> Option<f64> {
        self.wanted.iter().find(|(kind, _)| *kind == other).map(|(_, limit)| *limit)
    }
}

/// A protocol's price: our memcache against our own RESP in the same shape.
const MEMCACHE_OVER_RESP_WANTED: f64 = 1.3;

/// Pairs of workloads that differ only in the protocol, with the ratio of our CPU.
fn memcache_over_resp(all: &[Rows]) -> Vec<(&'static str, f64)> {
    let ours = |rows: &Rows| match rows.servers.first() {
        Some((Kind::Crucible, rounds)) if !rounds.is_empty() => Some(median(rounds)),
        _ => None,
    };
    let pair = |rows: &Rows| {
        let resp = all.iter().find(|other| rows.name.strip_prefix("mc-") == Some(other.name))?;
        Some((rows.name, ours(rows)? / ours(resp)?))
    };
    all.iter().filter_map(pair).collect()
}

/// The middle value; for an even count the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    debug_assert!(!values.is_empty(), "a median of nothing");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// The table.
pub(crate) fn table(all: &[Rows]) -> String {
    let mut out = String::new();
    for rows in all {
        let _ = writeln!(out, "\n{} ({})", rows.title, rows.name);
        let _ = writeln!(
            out,
            "  {:<16} {:>12} {:>22} {:>14} {:>9}",
            "server", "CPU us/req", "spread over rounds", "ours / theirs", "wanted"
        );
        for (kind, rounds) in rows.servers.iter().filter(|(_, rounds)| !rounds.is_empty()) {
            let (low, high) = spread(rounds);
            let spread = format!("{:.3} .. {:.3}", low / 1e3, high / 1e3);
            let ratio = match rows.ratio(*kind).filter(|_| *kind != Kind::Crucible) {
                Some(ratio) => format!("{ratio:.3}"),
                None => String::new(),
            };
            let wanted = match rows.wanted_of(*kind) {
                Some(limit) => format!("<= {limit:.2}"),
                None => String::new(),
            };
            let _ = writeln!(
                out,
                "  {:<16} {:>12.3} {:>22} {:>14} {:>9}",
                kind.name(),
                median(rounds) / 1e3,
                spread,
                ratio,
                wanted
            );
        }
    }
    for (name, ratio) in memcache_over_resp(all) {
        let _ = writeln!(
            out,
            "\n{name}: {ratio:.3} of our own RESP in the same shape (wanted <= \
             {MEMCACHE_OVER_RESP_WANTED:.2})"
        );
    }
    out
}

/// The same as JSON.
pub(crate) fn json(all: &[Rows], machine: Value) -> Value {
    let workloads: Vec<Value> = all
        .iter()
        .map(|rows| {
            let servers: Vec<Value> = rows
                .servers
                .iter()
                .filter(|(_, rounds)| !rounds.is_empty())
                .map(|(kind, rounds)| {
                    json!({
                        "server": kind.name(),
                        "cpu_ns_per_request_median": median(rounds),
                        "cpu_ns_per_request_rounds": rounds,
                        "ours_over_theirs": rows.ratio(*kind),
                        "wanted_max": rows.wanted_of(*kind),
                    })
                })
                .collect();
            json!({ "workload": rows.name, "title": rows.title, "servers": servers })
        })
        .collect();
    let pairs: Vec<Value> = memcache_over_resp(all)
        .into_iter()
        .map(|(name, ratio)| json!({ "workload": name, "memcache_over_resp": ratio }))
        .collect();
    json!({ "machine": machine, "workloads": workloads, "protocols": pairs })
}

fn spread(rounds: &[f64]) -> (f64, f64) {
    rounds.iter().fold((f64::MAX, f64::MIN), |(low, high), ns| (low.min(*ns), high.max(*ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        Rows {
            name: "get",
            title: "GET".to_owned(),
            servers: vec![
                (Kind::Crucible, vec![100.0, 300.0, 120.0]),
                (Kind::Floor, vec![100.0, 200.0, 100.0]),
                (Kind::Redis, vec![]),
            ],
            wanted: vec![(Kind::Floor, 1.1)],
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        assert_eq!(rows().ratio(Kind::Floor), Some(1.2));
        assert_eq!(rows().ratio(Kind::Redis), None);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[5.0]), 5.0);
    }

    #[test]
    fn the_table_leaves_out_servers_that_were_not_measured() {
        let text = table(&[rows()]);
        assert!(text.contains("floor") && text.contains("1.200") && text.contains("<= 1.10"));
        assert!(!text.contains("redis-server"), "{text}");
    }

    #[test]
    fn memcache_is_set_against_our_own_resp_in_the_same_shape() {
        let named = |name, ns| Rows {
            name,
            title: String::new(),
            servers: vec![(Kind::Crucible, vec![ns])],
            wanted: vec![],
        };
        let all = [named("get-p1", 100.0), named("mc-get-p1", 120.0), named("mc-alone", 1.0)];
        assert_eq!(memcache_over_resp(&all), [("mc-get-p1", 1.2)]);
    }

    #[test]
    fn the_json_carries_every_round() {
        let value = json(&[rows()], json!({}));
        let servers = &value["workloads"][0]["servers"];
        assert_eq!(servers[0]["cpu_ns_per_request_rounds"], json!([100.0, 300.0, 120.0]));
        assert_eq!(servers[1]["ours_over_theirs"], json!(1.2));
    }
}
