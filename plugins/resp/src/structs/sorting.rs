//! What SORT does with elements that were read: options, patterns, the order itself.
//!
//! Knows no store: the steps of SORT fetch elements, weights and results, and hand them in.

use std::cmp::Ordering;

use crate::error::Refusal;
use crate::number::{parse_f64, parse_i64};

/// Options of SORT and SORT_RO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Pattern of the keys whose values are the weights; `None`: the elements themselves.
    pub by: Option<Vec<u8>>,
    /// Patterns of what is answered instead of each element; `#` is the element.
    pub get: Vec<Vec<u8>>,
    /// Offset and count.
    pub limit: Option<(i64, i64)>,
    /// Compare as text.
    pub alpha: bool,
    /// The greatest first.
    pub descending: bool,
    /// Store the result there.
    pub store: Option<Vec<u8>>,
}

impl Options {
    /// Reads what stands behind the key.
    pub fn parse(args: &[&[u8]], read_only: bool) -> Result<Self, Refusal> {
        let (mut out, mut at) = (Self::default(), 0);
        while at < args.len() {
            let left = args.len() - at - 1;
            match args[at].to_ascii_lowercase().as_slice() {
                b"asc" => out.descending = false,
                b"desc" => out.descending = true,
                b"alpha" => out.alpha = true,
                b"limit" if left >= 2 => {
                    let number = |text| parse_i64(text).ok_or(Refusal::NotAnInteger);
                    out.limit = Some((number(args[at + 1])?, number(args[at + 2])?));
                    at += 2;
                }
                b"store" if left >= 1 && !read_only => {
                    out.store = Some(args[at + 1].to_vec());
                    at += 1;
                }
                b"by" if left >= 1 => {
                    out.by = Some(args[at + 1].to_vec());
                    at += 1;
                }
                b"get" if left >= 1 => {
                    out.get.push(args[at + 1].to_vec());
                    at += 1;
                }
                _ => return Err(Refusal::Syntax),
            }
            at += 1;
        }
        Ok(out)
    }

    /// A pattern without a star names no key: the elements keep their order.
    pub fn keeps_order(&self) -> bool {
        self.by.as_ref().is_some_and(|by| !by.contains(&b'*'))
    }

    /// The part of `len` elements that is wanted.
    pub fn window(&self, len: usize) -> std::ops::Range<usize> {
        let Some((offset, count)) = self.limit else { return 0..len };
        let start = usize::try_from(offset).unwrap_or(0).min(len);
        let end = match usize::try_from(count) {
            Ok(count) => start.saturating_add(count).min(len),
            Err(_) => len,
        };
        start..end
    }
}

/// A key, and perhaps a field of a hash in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key.
    pub key: Vec<u8>,
    /// The field.
    pub field: Option<Vec<u8>>,
}

/// Puts an element into a pattern; `None` when the pattern has no star.
pub fn place(pattern: &[u8], element: &[u8]) -> Option<Place> {
    let star = pattern.iter().position(|b| *b == b'*')?;
    let behind = &pattern[star + 1..];
    // An arrow with something behind it separates the field.
    let arrow = behind.windows(2).position(|w| w == b"->").filter(|at| at + 2 < behind.len());
    let (suffix, field) = match arrow {
        Some(at) => (&behind[..at], Some(behind[at + 2..].to_vec())),
        None => (behind, None),
    };
    Some(Place { key: [&pattern[..star], element, suffix].concat(), field })
}

/// By what an element is placed.
#[derive(Clone, Debug, PartialEq)]
pub enum Weight {
    /// A number.
    Number(f64),
    /// A text; `None` comes before all others.
    Text(Option<Vec<u8>>),
}

impl Weight {
    /// From the text found; none there is zero.
    pub fn number(text: Option<&[u8]>) -> Result<Self, Refusal> {
        let Some(text) = text else { return Ok(Self::Number(0.0)) };
        parse_f64(text).map(Self::Number).ok_or_else(|| {
            Refusal::Text("ERR One or more scores can't be converted into double".to_owned())
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

/// Sorts elements with their weights. Equal numbers are told apart by their elements.
pub fn sort(elements: &mut [(Weight, Vec<u8>)], descending: bool) {
    elements.sort_by(|a, b| {
        let order = match (a.0.compare(&b.0), &a.0) {
            (Ordering::Equal, Weight::Number(_)) => a.1.cmp(&b.1),
            (order, _) => order,
        };
        if descending { order.reverse() } else { order }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Refusal> {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        Options::parse(&words, false)
    }

    #[test]
    fn options_combine_and_the_last_direction_counts() {
        let options = parse("BY w_* LIMIT 1 2 GET # GET o_*->f DESC ASC ALPHA STORE d").unwrap();
        assert_eq!(options.by.as_deref(), Some(b"w_*".as_slice()));
        assert_eq!(options.get, [b"#".to_vec(), b"o_*->f".to_vec()]);
        assert_eq!(options.limit, Some((1, 2)));
        assert!(options.alpha && !options.descending);
        assert_eq!(options.store.as_deref(), Some(b"d".as_slice()));
        for line in ["LIMIT 1", "BY", "GET", "STORE", "what"] {
            assert_eq!(parse(line), Err(Refusal::Syntax), "{line}");
        }
        assert_eq!(parse("LIMIT a 1"), Err(Refusal::NotAnInteger));
        assert_eq!(Options::parse(&[b"STORE", b"d"], true), Err(Refusal::Syntax));
    }

    #[test]
    fn windows_stay_inside() {
        let window =
            |limit: (i64, i64)| Options { limit: Some(limit), ..Options::default() }.window(5);
        assert_eq!(window((0, 2)), 0..2);
        assert_eq!(window((3, 9)), 3..5);
        assert_eq!(window((-1, 2)), 0..2);
        assert_eq!(window((2, -1)), 2..5);
        assert_eq!(window((9, 1)), 5..5);
        assert_eq!(Options::default().window(5), 0..5);
    }

    #[test]
    fn patterns_name_keys_and_fields() {
        let of = |pattern: &str| {
            place(pattern.as_bytes(), b"7").map(|p| {
                let field = p.field.map(|f| String::from_utf8(f).unwrap());
                (String::from_utf8(p.key).unwrap(), field)
            })
        };
        assert_eq!(of("w_*"), Some(("w_7".into(), None)));
        assert_eq!(of("w_*_x->f"), Some(("w_7_x".into(), Some("f".into()))));
        assert_eq!(of("w_*->"), Some(("w_7->".into(), None)));
        assert_eq!(of("a->b*"), Some(("a->b7".into(), None)));
        assert_eq!(of("nostar"), None);
    }

    #[test]
    fn equal_numbers_fall_back_to_the_elements() {
        let weigh = |n: f64, e: &str| (Weight::Number(n), e.as_bytes().to_vec());
        let mut all = [weigh(1.0, "b"), weigh(0.0, "z"), weigh(1.0, "a")];
        sort(&mut all, false);
        assert_eq!(all.clone().map(|e| e.1), [b"z", b"a", b"b"]);
        sort(&mut all, true);
        assert_eq!(all.map(|e| e.1), [b"b", b"a", b"z"]);
        assert!(Weight::number(Some(b"x")).is_err());
        assert_eq!(Weight::number(None), Ok(Weight::Number(0.0)));
    }
}
