//! Families and samples as OpenMetrics writes them.
//!
//! What must always be true: each family has its TYPE and HELP once, its samples together, names
//! of letters that the format allows. Called by the files beside this one.

use std::fmt::Write as _;

/// What a family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
    Unknown,
}

/// The text so far.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a family; the name of its samples.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) -> String {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
            Kind::Unknown => "unknown",
        };
        let _ = writeln!(self.0, "# TYPE {name} {word}");
        for unit in ["seconds", "bytes", "ratio"] {
            if name.ends_with(&format!("_{unit}")) {
                let _ = writeln!(self.0, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.0, "# HELP {name} {}", escaped(help));
        match kind {
            Kind::Counter => format!("{name}_total"),
            Kind::Info => format!("{name}_info"),
            Kind::Gauge | Kind::Histogram | Kind::Unknown => name.to_owned(),
        }
    }

    pub(super) fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    pub(super) fn one(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        value: impl std::fmt::Display,
    ) {
        let name = self.family(name, kind, help);
        self.sample(&name, &[], value);
    }

    /// The whole text.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A name of letters that the format allows.
pub(super) fn name_of(parts: &[&str]) -> String {
    let joined = parts.join("_");
    joined
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_keep_to_the_letters_of_the_format() {
        assert_eq!(name_of(&["crucible", "resp", "Calls-get"]), "crucible_resp_calls_get");
        let mut text = Text::default();
        let name = text.family("x_bytes", Kind::Counter, "a \"b\"\nc");
        text.sample(&name, &[("l", "q\"\\")], 1);
        assert_eq!(
            text.end(),
            "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes a \\\"b\\\"\\nc\n\
             x_bytes_total{l=\"q\\\"\\\\\"} 1\n# EOF\n"
        );
    }
}
