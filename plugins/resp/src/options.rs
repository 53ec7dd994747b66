//! Options of SET, GETEX, MSETEX and the EXPIRE family, as checked values.
//!
//! The syntax is judged before any number, and numbers before the store is asked, so that errors
//! come in the order clients know. Deadlines are unix milliseconds, never 0. Called by the string
//! and key rooms.

use crate::error::{Refusal, quote};
use crate::frame::Args;
use crate::number::parse_i64;

/// Unit and origin of a time argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds of unix time.
    UnixSeconds,
    /// Milliseconds of unix time.
    UnixMillis,
}

impl Clock {
    /// A deadline from an argument; may lie in the past. `None` when it leaves the range.
    fn deadline(self, amount: i64, now_ms: u64) -> Option<i64> {
        let ms = match self {
            Clock::Seconds | Clock::UnixSeconds => amount.checked_mul(1000)?,
            Clock::Millis | Clock::UnixMillis => amount,
        };
        match self {
            Clock::Seconds | Clock::Millis => ms.checked_add(now_ms as i64),
            Clock::UnixSeconds | Clock::UnixMillis => Some(ms),
        }
    }

    /// Whether the argument counts seconds.
    pub fn is_seconds(self) -> bool {
        matches!(self, Clock::Seconds | Clock::UnixSeconds)
    }
}

/// Reads a time that must lie after the epoch and be positive, as SET and GETEX take it.
pub fn positive_deadline(
    text: &[u8],
    clock: Clock,
    now_ms: u64,
    command: &'static str,
) -> Result<u64, Refusal> {
    let amount = parse_i64(text).ok_or(Refusal::NotAnInteger)?;
    if amount <= 0 {
        return Err(Refusal::ExpireTime(command));
    }
    let ms = clock.deadline(amount, now_ms).ok_or(Refusal::ExpireTime(command))?;
    u64::try_from(ms).map_err(|_| Refusal::ExpireTime(command))
}

/// Reads a time of the EXPIRE family: past times are allowed and mean at once.
pub fn any_deadline(
    text: &[u8],
    clock: Clock,
    now_ms: u64,
    command: &'static str,
) -> Result<u64, Refusal> {
    let amount = parse_i64(text).ok_or(Refusal::NotAnInteger)?;
    let ms = clock.deadline(amount, now_ms).ok_or(Refusal::ExpireTime(command))?;
    // 0 would mean "never"; everything before the first millisecond is equally over.
    Ok(ms.max(1) as u64)
}

/// What a write does to the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Expiry {
    /// Takes it away (GETEX: leaves it).
    #[default]
    Unset,
    /// Leaves it.
    Keep,
    /// Takes it away, because it was asked for by name.
    Persist,
    /// Sets it, in unix milliseconds.
    At(u64),
}

/// When a SET may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum When<'a> {
    /// Always.
    #[default]
    Always,
    /// Only when the key is absent.
    Absent,
    /// Only when the key is present.
    Present,
    /// Only when the value equals this.
    Equals(&'a [u8]),
}

/// Options of SET, GETEX and MSETEX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options<'a> {
    /// Condition.
    pub when: When<'a>,
    /// Answer with the previous value.
    pub get: bool,
    /// Time to live.
    pub expiry: Expiry,
}

/// Which options a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SET: all but PERSIST.
    Set,
    /// GETEX: times and PERSIST.
    Getex,
    /// MSETEX: times, KEEPTTL, NX and XX.
    Msetex,
}

/// Reads options from argument `first` on.
#[inline]
pub fn parse<'a>(
    args: Args<'a, '_>,
    first: usize,
    dialect: Dialect,
    now_ms: u64,
    command: &'static str,
) -> Result<Options<'a>, Refusal> {
    if args.len() == first {
        return Ok(Options::default());
    }
    parse_some(args, first, dialect, now_ms, command)
}

fn parse_some<'a>(
    args: Args<'a, '_>,
    first: usize,
    dialect: Dialect,
    now_ms: u64,
    command: &'static str,
) -> Result<Options<'a>, Refusal> {
    let (mut out, mut time, mut at) = (Options::default(), None, first);
    while at < args.len() {
        let word = args.at(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let free = out.expiry == Expiry::Unset && time.is_none();
        // The same unit again is allowed; the last one counts.
        let same_unit = |clock| out.expiry == Expiry::Unset && time.is_none_or(|(c, _)| c == clock);
        let storing = dialect != Dialect::Getex;
        let unconditional = out.when == When::Always;
        let clock = match word.len() {
            2 if is(b"ex") => Some(Clock::Seconds),
            2 if is(b"px") => Some(Clock::Millis),
            4 if is(b"exat") => Some(Clock::UnixSeconds),
            4 if is(b"pxat") => Some(Clock::UnixMillis),
            _ => None,
        };
        if let Some(clock) = clock {
            let amount = args.get(at + 1).filter(|_| same_unit(clock)).ok_or(Refusal::Syntax)?;
            time = Some((clock, amount));
            at += 2;
            continue;
        }
        if storing && is(b"nx") && unconditional {
            out.when = When::Absent;
        } else if storing && is(b"xx") && unconditional {
            out.when = When::Present;
        } else if dialect == Dialect::Set && is(b"ifeq") && unconditional {
            at += 1;
            out.when = When::Equals(args.get(at).ok_or(Refusal::Syntax)?);
        } else if dialect == Dialect::Set && is(b"get") {
            out.get = true;
        } else if storing && is(b"keepttl") && (free || out.expiry == Expiry::Keep) {
            out.expiry = Expiry::Keep;
        } else if !storing && is(b"persist") && (free || out.expiry == Expiry::Persist) {
            out.expiry = Expiry::Persist;
        } else if (is(b"nx") && out.when == When::Absent && storing)
            || (is(b"xx") && out.when == When::Present && storing)
        {
            // Saying it twice is allowed.
        } else {
            return Err(Refusal::Syntax);
        }
        at += 1;
    }
    if let Some((clock, amount)) = time {
        out.expiry = Expiry::At(positive_deadline(amount, clock, now_ms, command)?);
    }
    Ok(out)
}

/// Conditions of the EXPIRE family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExpireWhen {
    /// Only without a time to live.
    pub nx: bool,
    /// Only with one.
    pub xx: bool,
    /// Only when the new one is later.
    pub gt: bool,
    /// Only when the new one is earlier.
    pub lt: bool,
}

/// Reads the conditions of the EXPIRE family from argument `first` on.
pub fn parse_expire(args: Args<'_, '_>, first: usize) -> Result<ExpireWhen, Refusal> {
    let mut when = ExpireWhen::default();
    for word in args.from(first) {
        match word.to_ascii_lowercase().as_slice() {
            b"nx" => when.nx = true,
            b"xx" => when.xx = true,
            b"gt" => when.gt = true,
            b"lt" => when.lt = true,
            _ => return Err(Refusal::UnsupportedOption(quote(word))),
        }
    }
    if when.nx && (when.xx || when.gt || when.lt) {
        return Err(Refusal::ExpireNxConflict);
    }
    if when.gt && when.lt {
        return Err(Refusal::ExpireGtLtConflict);
    }
    Ok(when)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Limits, Next, Parser};

    const NOW: u64 = 1_000_000;

    fn with<T>(line: &str, f: impl Fn(Args<'_, '_>) -> T) -> T {
        let (mut parser, line) = (Parser::default(), format!("{line}\r\n"));
        let next = parser.next(line.as_bytes(), &Limits::default()).unwrap();
        assert!(matches!(next, Next::Command { .. }));
        f(Args::new(line.as_bytes(), parser.spans()))
    }

    fn set(line: &str) -> Result<String, String> {
        with(line, |args| {
            parse(args, 0, Dialect::Set, NOW, "set")
                .map(|o| format!("{:?} {} {:?}", o.when, o.get, o.expiry))
                .map_err(|e| e.to_string())
        })
    }

    #[test]
    fn set_options_combine_as_in_redis() {
        let ok = |line: &str, text: &str| assert_eq!(set(line).as_deref(), Ok(text), "{line}");
        ok("EX 10", "Always false At(1010000)");
        ok("px 10 nx", "Absent false At(1000010)");
        ok("XX GET KEEPTTL", "Present true Keep");
        ok("nx get", "Absent true Unset");
        ok("EXAT 5", "Always false At(5000)");
        ok("PXAT 5", "Always false At(5)");
        ok("ifeq abc get", "Equals([97, 98, 99]) true Unset");
        ok("nx nx", "Absent false Unset");
        ok("keepttl keepttl", "Always false Keep");
        for line in [
            "nx xx",
            "EX",
            "EX 1 PX 1",
            "EX 1 KEEPTTL",
            "KEEPTTL EX 1",
            "what",
            "persist",
            "ifeq",
            "nx ifeq a",
            "ifeq a xx",
            "EX 1 EXAT 1",
            "EX nx 1",
        ] {
            assert_eq!(set(line), Err("ERR syntax error".into()), "{line}");
        }
        let number = "ERR value is not an integer or out of range";
        let time = "ERR invalid expire time in 'set' command";
        for (line, text) in [
            ("EX x", number),
            ("EX 1.5", number),
            ("EX 0", time),
            ("PX -1", time),
            ("EXAT 0", time),
            ("EX 9223372036854775807", time),
            ("PX 9223372036854775807", time),
            ("EX 9223372036854775808", number),
        ] {
            assert_eq!(set(line), Err(text.into()), "{line}");
        }
    }

    #[test]
    fn getex_takes_times_and_persist_only() {
        let getex = |line: &str| {
            with(line, |args| parse(args, 0, Dialect::Getex, NOW, "getex").map(|o| o.expiry))
        };
        assert_eq!(getex("PERSIST"), Ok(Expiry::Persist));
        assert_eq!(getex("EX 1"), Ok(Expiry::At(1_001_000)));
        for line in ["NX", "KEEPTTL", "GET", "PERSIST EX 1", "EX 1 PERSIST"] {
            assert_eq!(getex(line), Err(Refusal::Syntax), "{line}");
        }
        assert_eq!(getex("EX 0"), Err(Refusal::ExpireTime("getex")));
    }

    #[test]
    fn expire_conditions_conflict_as_in_redis() {
        let expire = |line: &str| with(line, |args| parse_expire(args, 0));
        assert_eq!(expire("xx gt"), Ok(ExpireWhen { xx: true, gt: true, ..Default::default() }));
        assert_eq!(expire("nx gt"), Err(Refusal::ExpireNxConflict));
        assert_eq!(expire("gt LT"), Err(Refusal::ExpireGtLtConflict));
        assert_eq!(expire("AB"), Err(Refusal::UnsupportedOption("AB".into())));
    }

    #[test]
    fn past_deadlines_are_over_but_never_never() {
        assert_eq!(any_deadline(b"-5", Clock::Seconds, NOW, "expire"), Ok(995_000));
        assert_eq!(any_deadline(b"0", Clock::UnixSeconds, NOW, "expireat"), Ok(1));
        assert_eq!(
            any_deadline(b"9223372036854775807", Clock::Seconds, NOW, "expire"),
            Err(Refusal::ExpireTime("expire"))
        );
        assert_eq!(any_deadline(b"-9223372036854775808", Clock::Millis, NOW, "pexpire"), Ok(1));
    }
}
