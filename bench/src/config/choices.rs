//! The words a config may choose from, as enums.
//!
//! Always true: an unknown word is refused with the list of known ones. Called by [`super::written`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::units::Span;

/// Defines an enum of words with `FromStr` and `Display`.
macro_rules! choice {
    ($(#[$outer:meta])* $name:ident { $($(#[$meta:meta])* $word:literal $variant:ident,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$meta])* $variant,)* }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("`{text}` is none of {}", [$($word),*].join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}

choice! {
    /// What is spoken with the server.
    Protocol {
        /// RESP2.
        "resp" Resp,
        /// RESP3: `HELLO 3` is sent first and its answer checked.
        "resp3" Resp3,
        /// memcached's classic text commands.
        "memcache" McText,
        /// memcached's meta commands.
        "memcache-meta" McMeta,
        /// memcached's binary protocol.
        "memcache-binary" McBinary,
        /// Momento's protosocket transport.
        "momento" Momento,
        /// Momento's gRPC service.
        "momento-grpc" MomentoGrpc,
        /// `PING` → `PONG` lines.
        "ping" Ping,
    }
}

choice! {
    /// Gaps between intended send times.
    Arrival {
        /// All gaps equal.
        "uniform" Uniform,
        /// Exponential gaps.
        "poisson" Poisson,
    }
}

choice! {
    /// What is checked of each answered value.
    Verify {
        /// Content, and against the versions written by this run.
        "full" Full,
        /// Content alone.
        "content" Content,
        /// Nothing.
        "off" Off,
    }
}

choice! {
    /// Whose clock measures a reply beside the generator's own.
    Timestamps {
        /// The generator's alone.
        "user" User,
        /// The kernel's too: `SO_TIMESTAMPING` of sends and receives.
        "kernel" Kernel,
    }
}

choice! {
    /// How progress is shown.
    Table {
        /// A line that is redrawn.
        "live" Live,
        /// A line for each interval.
        "plain" Plain,
        /// Only the summary.
        "none" None,
    }
}

choice! {
    /// Formats of trace files.
    TraceFormat {
        /// `time_s,key,size[,op[,ttl_s]]` lines.
        "csv" Csv,
        /// libCacheSim's 24-byte records.
        "oracle-general" OracleGeneral,
        /// The cache-trace lines of memcached at Twitter.
        "twitter" Twitter,
        /// `KTR1` files.
        "kt" Kt,
    }
}

/// When a trace's requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TraceSpeed {
    /// As fast as the connections take them (or at the rate, when one is given).
    Fast,
    /// At the recorded times, divided by this factor.
    Timed(f64),
}

impl FromStr for TraceSpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Self::Fast),
            "timed" => Ok(Self::Timed(1.0)),
            _ => text
                .trim_end_matches('x')
                .parse()
                .ok()
                .filter(|f: &f64| *f > 0.0 && f.is_finite())
                .map(Self::Timed)
                .ok_or_else(|| format!("`{text}` is none of fast, timed, or a factor above 0")),
        }
    }
}

/// What follows a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// Open it again after this time.
    After(Duration),
    /// Leave it closed.
    Never,
}

impl FromStr for Reconnect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" { Ok(Self::Never) } else { text.parse().map(|Span(d)| Self::After(d)) }
    }
}

/// `host:port` texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(pub Vec<String>);

impl FromStr for Endpoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list: Vec<String> = text.split(',').map(|e| e.trim().to_owned()).collect();
        for endpoint in &list {
            let port = endpoint.rsplit_once(':').and_then(|(host, port)| {
                (!host.is_empty()).then_some(())?;
                port.parse::<u16>().ok().filter(|p| *p != 0)
            });
            if port.is_none() {
                return Err(format!("`{endpoint}` is not host:port"));
            }
        }
        Ok(Self(list))
    }
}
