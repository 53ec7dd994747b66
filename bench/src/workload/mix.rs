//! Which commands are sent, how often each, and RESP commands by template.
//!
//! Always true: an entry has a weight above 0, and a template was split into arguments once, before the
//! run. Called by the plan (parsing) and the worker (drawing).

use std::fmt;
use std::str::FromStr;

use crate::rng::Rng;

/// Most entries of one mix: a command index is a byte.
pub const ENTRIES_MAX: usize = 64;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read one key.
    Get,
    /// Store one key.
    Set,
    /// Remove one key.
    Delete,
    /// Read several keys in one request.
    MGet,
    /// Add one to a counter (its own keys, never a value's).
    Incr,
    /// Set a new time to live.
    Touch,
    /// Read a key with its token: the first half of `cas`.
    Gets,
    /// Store under a token.
    Cas,
    /// A liveness check.
    Ping,
    /// A RESP command by template.
    Template(u8),
    /// Announces that the next request follows an ASK of the cluster.
    Asking,
    /// Creates a counter that `incr` did not find (memcache text).
    CounterInit,
}

/// A part of a template's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Literal(Vec<u8>),
    /// The drawn key.
    Key,
    /// The key's next value.
    Value,
    /// A random decimal number below 1,000,000.
    Number,
}

/// A RESP command with holes, split at spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// As written.
    pub text: String,
    /// Each argument's parts.
    pub arguments: Vec<Vec<Part>>,
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let arguments =
            text.split_whitespace().map(Self::argument).collect::<Result<Vec<_>, _>>()?;
        if !matches!(arguments.first().map(Vec::as_slice), Some([Part::Literal(_)])) {
            return Err(format!("`{text}`: the first word must be the command's name"));
        }
        Ok(Self { text: text.to_owned(), arguments })
    }

    fn argument(word: &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut rest = word;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                parts.push(Part::Literal(rest[..open].into()));
            }
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| format!("`{word}`: a brace without its partner"))?;
            parts.push(match &rest[open + 1..open + close] {
                "key" => Part::Key,
                "value" => Part::Value,
                "number" => Part::Number,
                other => {
                    return Err(format!("`{{{other}}}` is none of {{key}}, {{value}}, {{number}}"));
                }
            });
            rest = &rest[open + close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(parts)
    }
}

/// A mix as written: names or templates with weights.
#[derive(Debug, Clone, PartialEq)]
pub struct MixText(pub Vec<(String, f64)>);

impl FromStr for MixText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|item| {
                let (name, weight) = item.rsplit_once('=').unwrap_or((item, "1"));
                let weight: f64 = weight
                    .trim()
                    .parse()
                    .ok()
                    .filter(|w: &f64| *w >= 0.0 && w.is_finite())
                    .ok_or_else(|| format!("`{item}`: `{weight}` is no weight"))?;
                Ok((name.trim().to_owned(), weight))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }
}

impl fmt::Display for MixText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, weight)) in self.0.iter().enumerate() {
            write!(f, "{}{name}={weight}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A checked mix.
#[derive(Debug, Clone)]
pub struct Mix {
    entries: Vec<(Verb, f64)>,
    /// Templates, by the index in [`Verb::Template`].
    pub templates: Vec<Template>,
}

impl Mix {
    /// Checks names and weights.
    ///
    /// # Errors
    /// A sentence that names the entry.
    pub fn new(text: &MixText) -> Result<Self, String> {
        let mut templates = Vec::new();
        let mut entries: Vec<(Verb, f64)> = Vec::new();
        let mut total = 0.0;
        for (name, weight) in &text.0 {
            let verb = match name.to_ascii_lowercase().as_str() {
                "get" => Verb::Get,
                "set" => Verb::Set,
                "delete" | "del" => Verb::Delete,
                "mget" => Verb::MGet,
                "incr" => Verb::Incr,
                "touch" => Verb::Touch,
                "cas" => Verb::Cas,
                "ping" => Verb::Ping,
                _ if name.contains(' ') => {
                    templates.push(Template::parse(name)?);
                    Verb::Template((templates.len() - 1) as u8)
                }
                _ => {
                    return Err(format!(
                        "`{name}` is none of get, set, delete, mget, incr, touch, cas, ping, and a RESP \
                         command by template has arguments, as in `HSET {{key}} f {{value}}`"
                    ));
                }
            };
            if entries.iter().any(|(v, _)| *v == verb) {
                return Err(format!("`{name}` is named twice"));
            }
            if *weight > 0.0 {
                total += weight;
                entries.push((verb, total));
            }
        }
        if entries.is_empty() {
            return Err("no command has a weight above 0".into());
        }
        if entries.len() > ENTRIES_MAX {
            return Err(format!("{} commands, above the limit of {ENTRIES_MAX}", entries.len()));
        }
        for (_, cumulative) in &mut entries {
            *cumulative /= total;
        }
        Ok(Self { entries, templates })
    }

    /// Draws a command.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> Verb {
        if let [(only, _)] = self.entries[..] {
            return only;
        }
        let unit = rng.unit();
        self.entries
            .iter()
            .find(|(_, cumulative)| unit < *cumulative)
            .unwrap_or_else(|| self.entries.last().expect("a mix is not empty"))
            .0
    }

    /// Every verb of the mix.
    pub fn verbs(&self) -> impl Iterator<Item = Verb> + '_ {
        self.entries.iter().map(|(verb, _)| *verb)
    }

    /// The name a verb is reported under.
    #[must_use]
    pub fn name(&self, verb: Verb) -> &str {
        match verb {
            Verb::Get => "get",
            Verb::Set => "set",
            Verb::Delete => "delete",
            Verb::MGet => "mget",
            Verb::Incr => "incr",
            Verb::Touch => "touch",
            Verb::Gets => "gets",
            Verb::Cas => "cas",
            Verb::Ping => "ping",
            Verb::CounterInit => "add",
            Verb::Asking => "asking",
            Verb::Template(index) => &self.templates[index as usize].text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_drawn_by_their_weights() {
        let mix = Mix::new(&"get=90,set=9,HSET {key} f {value}=1".parse().unwrap()).unwrap();
        let mut rng = Rng::new(4);
        let mut seen = [0u32; 3];
        for _ in 0..100_000 {
            seen[match mix.draw(&mut rng) {
                Verb::Get => 0,
                Verb::Set => 1,
                Verb::Template(0) => 2,
                other => panic!("{other:?}"),
            }] += 1;
        }
        for (got, expected) in seen.iter().zip([90_000.0, 9_000.0, 1_000.0]) {
            assert!((f64::from(*got) - expected).abs() < 5.0 * f64::sqrt(expected), "{seen:?}");
        }
    }

    #[test]
    fn a_template_keeps_its_literals_and_holes() {
        let mix = Mix::new(&"ZADD z:{key} {number} {value}=1".parse().unwrap()).unwrap();
        assert_eq!(
            mix.templates[0].arguments,
            vec![
                vec![Part::Literal(b"ZADD".into())],
                vec![Part::Literal(b"z:".into()), Part::Key],
                vec![Part::Number],
                vec![Part::Value],
            ]
        );
    }

    #[test]
    fn impossible_mixes_are_refused_in_a_sentence() {
        for text in ["get=0", "gte=1", "get=1,get=2", "GET {kay}=1", "{key} x=1", "GET {key=1"] {
            let error = Mix::new(&text.parse().unwrap()).unwrap_err();
            assert!(error.len() > 10, "{text}: {error}");
        }
        assert!("get=x".parse::<MixText>().is_err());
        assert!("get=-1".parse::<MixText>().is_err());
    }
}
