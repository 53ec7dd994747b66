//! Ranges of sorted sets as arguments: by score (`1`, `(1`, `-inf`) and by member (`[a`, `(a`, `-`).

use crate::error::Refusal;
use crate::number::parse_f64;

/// An end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// The score.
    pub score: f64,
    /// The score itself is outside.
    pub exclusive: bool,
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// Before all members (`-`).
    First,
    /// Behind all members (`+`).
    Last,
    /// This member and on.
    Inclusive(&'a [u8]),
    /// What lies beyond this member.
    Exclusive(&'a [u8]),
}

/// Reads an end of a range of scores.
pub fn score(text: &[u8]) -> Result<ScoreBound, Refusal> {
    let (exclusive, digits) = match text {
        [b'(', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // An empty number counts as zero, as clients have come to rely on.
    let score = match digits.trim_ascii_start() {
        b"" => 0.0,
        digits => parse_f64(digits).ok_or(Refusal::ScoreRange)?,
    };
    Ok(ScoreBound { score, exclusive })
}

/// Reads an end of a range of members.
pub fn lex(text: &[u8]) -> Result<LexBound<'_>, Refusal> {
    match text {
        b"-" => Ok(LexBound::First),
        b"+" => Ok(LexBound::Last),
        [b'[', rest @ ..] => Ok(LexBound::Inclusive(rest)),
        [b'(', rest @ ..] => Ok(LexBound::Exclusive(rest)),
        _ => Err(Refusal::LexRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_ranges_read_as_in_redis() {
        let at = |score, exclusive| Ok(ScoreBound { score, exclusive });
        for (text, bound) in [
            ("1", at(1.0, false)),
            ("(1.5", at(1.5, true)),
            ("-inf", at(f64::NEG_INFINITY, false)),
            ("(+inf", at(f64::INFINITY, true)),
            ("", at(0.0, false)),
            ("(", at(0.0, true)),
            ("nan", Err(Refusal::ScoreRange)),
            ("x", Err(Refusal::ScoreRange)),
            ("((1", Err(Refusal::ScoreRange)),
            ("1 ", Err(Refusal::ScoreRange)),
        ] {
            assert_eq!(score(text.as_bytes()), bound, "{text:?}");
        }
    }

    #[test]
    fn member_ranges_need_their_bracket() {
        for (text, bound) in [
            ("-", Ok(LexBound::First)),
            ("+", Ok(LexBound::Last)),
            ("[a", Ok(LexBound::Inclusive(b"a".as_slice()))),
            ("(", Ok(LexBound::Exclusive(b"".as_slice()))),
            ("a", Err(Refusal::LexRange)),
            ("+x", Err(Refusal::LexRange)),
            ("", Err(Refusal::LexRange)),
        ] {
            assert_eq!(lex(text.as_bytes()), bound, "{text:?}");
        }
    }
}
