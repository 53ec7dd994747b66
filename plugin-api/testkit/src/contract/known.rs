//! What is known of an item, and how answers are compared with it.

use crucible_plugin_api::{Change, Item, Modify, Op, Opts, Status, semantics};

use crate::store::{Answer, Shown, StoreWorker};

/// An item as the rules say it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) value: Vec<u8>,
    pub(super) flags: u32,
    pub(super) marks: u8,
    pub(super) expires_at_ms: u64,
    /// As the backend told it.
    pub(super) cas: u64,
}

impl Known {
    pub(super) fn of(shown: &Shown) -> Self {
        Self {
            value: shown.value.clone(),
            flags: shown.flags,
            marks: shown.marks,
            expires_at_ms: shown.expires_at_ms,
            cas: shown.cas,
        }
    }

    pub(super) fn item(&self) -> Item<'_> {
        Item::of_bytes(&self.value, self.cas, self.flags, self.marks, self.expires_at_ms)
    }

    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms != 0 && self.expires_at_ms <= now_ms
    }

    /// What differs from an item that was shown; the token is not compared.
    pub(super) fn differs(&self, shown: &Shown, granularity_ms: u64) -> Option<String> {
        let apart = self.expires_at_ms.abs_diff(shown.expires_at_ms);
        let deadline_differs = apart >= granularity_ms.max(1)
            || (self.expires_at_ms == 0) != (shown.expires_at_ms == 0);
        if self.value != shown.value {
            Some(format!("value {} instead of {}", brief(&shown.value), brief(&self.value)))
        } else if self.flags != shown.flags {
            Some(format!("flags {} instead of {}", shown.flags, self.flags))
        } else if self.marks != shown.marks {
            Some(format!("marks {} instead of {}", shown.marks, self.marks))
        } else if deadline_differs {
            Some(format!("deadline {} instead of {}", shown.expires_at_ms, self.expires_at_ms))
        } else {
            None
        }
    }
}

fn brief(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(40)];
    format!("\"{}\" ({} bytes)", head.escape_ascii(), bytes.len())
}

/// What the rules say comes of an operation.
pub(super) struct Outcome {
    pub(super) status: Status,
    pub(super) note: i64,
    /// The item left, with token 0 where the backend chooses a fresh one.
    pub(super) after: Option<Known>,
    /// The value changed, so the token must.
    pub(super) changed: bool,
}

/// Asks the rules.
pub(super) fn outcome(op: &Op<'_>, before: Option<&Known>, value_len_max: u64) -> Outcome {
    let item = before.map(Known::item);
    let change = semantics::decide(op, item.as_ref());
    let too_large = matches!(&change.modify,
        Modify::Replace { value, .. } if value.len() as u64 > value_len_max);
    let change = if too_large { Change::keep(Status::TOO_LARGE) } else { change };
    let (after, changed) = match change.modify {
        Modify::Keep => (before.cloned(), false),
        Modify::Delete => (None, true),
        Modify::Replace { value, flags, marks, expires_at_ms } => {
            let cas = change.new_cas;
            (Some(Known { value, flags, marks, expires_at_ms, cas }), true)
        }
        Modify::SetMeta { flags, marks, expires_at_ms } => {
            (before.map(|old| Known { flags, marks, expires_at_ms, ..old.clone() }), false)
        }
    };
    Outcome { status: change.status, note: change.note, after, changed }
}

/// Reads a key without leaving a trace, with a token that lasts.
pub(super) fn look(worker: &mut StoreWorker<'_>, key: &[u8]) -> Option<Known> {
    let answer = worker.run(Op::get(key).opts(Opts::NO_TOUCH | Opts::WANT_CAS));
    match answer.status {
        Status::OK => Some(Known::of(answer.item.as_ref().expect("a hit shows an item"))),
        Status::MISS => None,
        other => panic!("GET {} answered {other:?}", key.escape_ascii()),
    }
}

/// Stores, and expects that it worked.
pub(super) fn put(worker: &mut StoreWorker<'_>, op: Op<'_>) {
    let (key, answer) = (op.key(), worker.run(op));
    assert_eq!(answer.status, Status::OK, "storing {}", key.escape_ascii());
}

/// Compares an answer with what the rules said, `before` being the item that
/// was there. `None` = alike.
pub(super) fn answer_differs(
    op: &Op<'_>,
    answer: &Answer,
    before: Option<&Known>,
    expected: &Outcome,
    granularity_ms: u64,
) -> Option<String> {
    use crucible_plugin_api::OpCode;
    if answer.status != expected.status {
        return Some(format!("status {:?} instead of {:?}", answer.status, expected.status));
    }
    let (code, opts) = (op.code(), op.raw().opts);
    let numbers = matches!(code, OpCode::ARITH | OpCode::APPEND | OpCode::PREPEND | OpCode::MODIFY);
    let answers = answer.status == Status::OK || code == OpCode::MODIFY;
    if numbers && answers && answer.number != expected.note {
        return Some(format!("number {} instead of {}", answer.number, expected.note));
    }
    match code {
        OpCode::NOP => return None,
        OpCode::GET | OpCode::META => {
            return match (before, &answer.item) {
                (None, None) => None,
                (Some(known), Some(shown)) => {
                    let mut known = known.clone();
                    if opts.has(Opts::SET_EXPIRY) {
                        // Before or after: both are fair.
                        known.expires_at_ms = shown.expires_at_ms;
                    }
                    if shown.cas != known.cas && !opts.has(Opts::SET_EXPIRY) {
                        return Some(format!("token {} instead of {}", shown.cas, known.cas));
                    }
                    if code == OpCode::META {
                        if shown.len != known.value.len() {
                            return Some(format!("length {}", shown.len));
                        }
                        known.value.clear();
                    }
                    known.differs(shown, granularity_ms).map(|d| format!("shows {d}"))
                }
                (before, shown) => Some(format!("shows {shown:?} for {before:?}")),
            };
        }
        _ => {}
    }
    let whole = if opts.has(Opts::RETURN_OLD) {
        before
    } else if code == OpCode::MODIFY && answer.status.is_answer() {
        expected.after.as_ref()
    } else {
        if answer.status == Status::OK && expected.after.is_some() && answer.cas == 0 {
            return Some("no CAS token after a write".to_owned());
        }
        return None;
    };
    match (whole, &answer.item) {
        (None, None) => None,
        (Some(known), Some(shown)) => {
            known.differs(shown, granularity_ms).map(|d| format!("answers {d}"))
        }
        (known, shown) => Some(format!("answers {shown:?} instead of {known:?}")),
    }
}
