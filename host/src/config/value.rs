//! Values of settings: how each type is read from a file or from text, and how
//! it is written back.
//!
//! What must always be true: what [`Setting::write`] prints is read back as the
//! same value, so that a printed configuration is a valid one. Called by the
//! key tables.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kompio::CpuList;

/// A value as the user gave it.
#[derive(Clone, Debug)]
pub enum Given {
    /// From a file.
    Toml(toml::Value),
    /// From the command line or the environment.
    Text(String),
}

impl Given {
    /// As the user wrote it, for error messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Toml(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }

    /// For settings that a plugin owns: text becomes a number or a truth value
    /// when it looks like one.
    #[must_use]
    pub fn into_json(self) -> serde_json::Value {
        match self {
            Self::Toml(value) => json_of(value),
            Self::Text(text) => match (text.parse::<i64>(), text.parse::<bool>()) {
                (Ok(number), _) => number.into(),
                (_, Ok(truth)) => truth.into(),
                _ => text.into(),
            },
        }
    }
}

/// TOML as JSON; dates become text.
#[must_use]
pub fn json_of(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(k, v)| (k, json_of(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// A type of setting.
pub trait Setting: Sized {
    /// What to write, for people: `"a size"`.
    const SHAPE: &'static str;

    /// Reads text.
    ///
    /// # Errors
    /// What was expected.
    fn read(text: &str) -> Result<Self, String>;

    /// The value in TOML; `None` when it is not set.
    fn write(&self) -> Option<String>;

    /// Reads a value of a file; text unless the type has a closer one.
    ///
    /// # Errors
    /// What was expected.
    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => Self::read(text),
            other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
        }
    }

    /// Reads either.
    ///
    /// # Errors
    /// What was expected.
    fn given(given: &Given) -> Result<Self, String> {
        match given {
            Given::Text(text) => Self::read(text.trim()),
            Given::Toml(value) => Self::read_toml(value),
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Setting for $number {
            const SHAPE: &'static str = "a whole number";

            fn read(text: &str) -> Result<Self, String> {
                text.replace('_', "").parse().map_err(|_| {
                    format!("expected {} up to {}", Self::SHAPE, Self::MAX)
                })
            }

            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn read_toml(value: &toml::Value) -> Result<Self, String> {
                match value {
                    toml::Value::Integer(n) => Self::try_from(*n).map_err(|_| {
                        format!("expected {} from 0 to {}", Self::SHAPE, Self::MAX)
                    }),
                    toml::Value::String(text) => Self::read(text),
                    other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
                }
            }
        }
    )*};
}
numbers!(u32, usize);

impl Setting for bool {
    const SHAPE: &'static str = "true or false";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(format!("expected {}", Self::SHAPE)),
        }
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Boolean(truth) => Ok(*truth),
            other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
        }
    }
}

/// A number of bytes: `64MiB`, `512KB`, `4096`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Setting for Size {
    const SHAPE: &'static str = "a size such as \"64MiB\"";

    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {} (units: B, KiB, MiB, GiB, TiB; KB = KiB)", Self::SHAPE);
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.replace('_', "").parse().map_err(|_| wrong())?;
        let unit = unit.trim().to_ascii_lowercase();
        let scale = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" if unit != "i" && unit != "ib" => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            "t" => 1u64 << 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(scale).map(Self).ok_or_else(wrong)
    }

    fn write(&self) -> Option<String> {
        let fits = |(_, scale): &&(&str, u64)| self.0.is_multiple_of(*scale);
        let (unit, scale) = UNITS.iter().find(fits).expect("everything is whole bytes");
        Some(if self.0 == 0 { "0".into() } else { format!("\"{}{unit}\"", self.0 / scale) })
    }

    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Integer(n) => {
                u64::try_from(*n).map(Self).map_err(|_| format!("expected {}", Self::SHAPE))
            }
            toml::Value::String(text) => Self::read(text),
            other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
        }
    }
}

impl Setting for Duration {
    const SHAPE: &'static str = "a duration such as \"30s\" or \"500ms\"";

    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {} (units: us, ms, s, m, h, d)", Self::SHAPE);
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let whole = |seconds: u64| number.checked_mul(seconds).map(Self::from_secs);
        match unit.trim() {
            "us" => Some(Self::from_micros(number)),
            "ms" => Some(Self::from_millis(number)),
            "s" => whole(1),
            "m" => whole(60),
            "h" => whole(3600),
            "d" => whole(86400),
            _ => None,
        }
        .ok_or_else(wrong)
    }

    fn write(&self) -> Option<String> {
        let us = self.as_micros();
        Some(match us {
            0 => "\"0\"".into(),
            _ if us.is_multiple_of(86_400_000_000) => format!("\"{}d\"", us / 86_400_000_000),
            _ if us.is_multiple_of(3_600_000_000) => format!("\"{}h\"", us / 3_600_000_000),
            _ if us.is_multiple_of(60_000_000) => format!("\"{}m\"", us / 60_000_000),
            _ if us.is_multiple_of(1_000_000) => format!("\"{}s\"", us / 1_000_000),
            _ if us.is_multiple_of(1000) => format!("\"{}ms\"", us / 1000),
            _ => format!("\"{us}us\""),
        })
    }
}

/// TOML text in quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Setting for String {
    const SHAPE: &'static str = "text";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn write(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    const SHAPE: &'static str = "a path";

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("expected a path".into()) } else { Ok(text.into()) }
    }

    fn write(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Setting for Vec<PathBuf> {
    const SHAPE: &'static str = "a list of paths";

    fn read(text: &str) -> Result<Self, String> {
        Ok(std::env::split_paths(text).filter(|p| !p.as_os_str().is_empty()).collect())
    }

    fn write(&self) -> Option<String> {
        let each: Vec<_> = self.iter().map(|p| quoted(&p.to_string_lossy())).collect();
        Some(format!("[{}]", each.join(", ")))
    }

    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Array(items) => items.iter().map(PathBuf::read_toml).collect(),
            toml::Value::String(text) => Self::read(text),
            other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
        }
    }
}

impl Setting for Vec<String> {
    const SHAPE: &'static str = "a list of words";

    fn read(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        Ok(words.map(str::to_owned).collect())
    }

    fn write(&self) -> Option<String> {
        let each: Vec<_> = self.iter().map(|word| quoted(word)).collect();
        Some(format!("[{}]", each.join(", ")))
    }

    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Array(items) => items.iter().map(String::read_toml).collect(),
            toml::Value::String(text) => Self::read(text),
            other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
        }
    }
}

impl Setting for CpuList {
    const SHAPE: &'static str = "a list of CPUs such as \"0,2,4-7:2\"";

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: kompio::CpuListError| e.to_string())
    }

    fn write(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }

    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Array(items) => {
                let cpus: Result<Vec<usize>, _> = items.iter().map(usize::read_toml).collect();
                Self::try_from(cpus?).map_err(|e| e.to_string())
            }
            toml::Value::Integer(_) => {
                Self::try_from(vec![usize::read_toml(value)?]).map_err(|e| e.to_string())
            }
            toml::Value::String(text) => Self::read(text),
            other => Err(format!("expected {}, found {}", Self::SHAPE, other.type_str())),
        }
    }
}

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Setting for Address {
    const SHAPE: &'static str = "an address such as \"127.0.0.1:6379\" or \"unix:/run/x.sock\"";

    fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return PathBuf::read(path).map(Self::Unix);
        }
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let text = local.as_deref().unwrap_or(text);
        text.parse().map(Self::Tcp).map_err(|_| format!("expected {}", Self::SHAPE))
    }

    fn write(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const SHAPE: &'static str = T::SHAPE;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }

    fn read_toml(value: &toml::Value) -> Result<Self, String> {
        T::read_toml(value).map(Some)
    }
}

/// Makes an enum of words that settings may be.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl Setting for $name {
            const SHAPE: &'static str = concat!("one of", $(" \"", $word, "\""),+);

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("expected {}", Self::SHAPE)),
                }
            }

            fn write(&self) -> Option<String> {
                Some(match self { $(Self::$variant => concat!("\"", $word, "\"")),+ }.to_owned())
            }
        }
    };
}

words! {
    /// How much is logged.
    Level {
        /// Nothing.
        Off = "off",
        /// What went wrong.
        Error = "error",
        /// What may go wrong.
        Warn = "warn",
        /// What an operator wants to know.
        Info = "info",
        /// What a developer wants to know.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
words! {
    /// How log lines look.
    Format {
        /// For people at a terminal.
        Pretty = "pretty",
        /// One line each, without colours.
        Compact = "compact",
        /// One JSON object a line.
        Json = "json",
    }
}
words! {
    /// Where log lines go.
    Output {
        /// Standard error.
        Stderr = "stderr",
        /// Standard output.
        Stdout = "stdout",
    }
}
words! {
    /// How connections reach the workers.
    Accept {
        /// One worker accepts and hands on in turn.
        RoundRobin = "round-robin",
        /// Each worker has its own listening socket.
        ReusePort = "reuse-port",
    }
}
words! {
    /// Whether a client needs a certificate, where authorities are named.
    ClientAuth {
        /// Nobody enters without.
        Required = "required",
        /// Who comes with one must have a good one.
        Optional = "optional",
    }
}
words! {
    /// Versions of TLS.
    TlsVersion {
        /// 1.2 and newer.
        V1_2 = "1.2",
        /// 1.3 alone.
        V1_3 = "1.3",
    }
}
words! {
    /// Zero-copy sends.
    ZeroCopy {
        /// Never.
        Off = "off",
        /// Where a first try was not copied by the kernel.
        Probe = "probe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_whatever_the_unit_is_called() {
        let size = |text| Size::read(text).map(|s| s.0);
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4_096", 4096),
            ("1B", 1),
            ("1KB", 1024),
            ("1KiB", 1024),
            ("1k", 1024),
            ("64MiB", 64 << 20),
            ("64 mb", 64 << 20),
            ("2GiB", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1.5GiB", "-1", "1XB", "99999999999GiB", "GiB", "1iB", "1bb1"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_carry_a_unit() {
        let read = |text| Duration::read(text).ok();
        assert_eq!(read("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        for text in ["30", "s", "1.5s", "-1s", "1w", ""] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(Duration::read_toml(&toml::Value::Integer(30)).is_err());
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_value() {
        fn round<T: Setting + PartialEq + std::fmt::Debug>(value: T) {
            let text = format!("x = {}", value.write().unwrap());
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(T::read_toml(&table["x"]), Ok(value), "{text}");
        }
        for bytes in [0, 1, 1023, 1024, 3 << 20, (1 << 30) + 1] {
            round(Size(bytes));
        }
        for us in [0, 1, 1500, 1_000_000, 90_000_000, 3_600_000_000, 86_400_000_000] {
            round(Duration::from_micros(us));
        }
        round(Address::read("127.0.0.1:1").unwrap());
        round(Address::read("[::1]:1").unwrap());
        round(Address::read("unix:/a b/\"c").unwrap());
        round("0,2,4-7:2".parse::<CpuList>().unwrap());
        round(vec![PathBuf::from("/a"), PathBuf::from("b c")]);
        round(true);
        round(7usize);
        round(Level::Debug);
    }
}
