//! Error texts, as clients know them. One variant for each cause; the text appears only here.
//! Called by every room that refuses something.

use crate::write::{Sink, Writer};

/// Longest piece of a client's text that an error repeats, in bytes.
const QUOTE_LEN_BYTES_MAX: usize = 128;

/// A command that is refused, or that the store refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    #[error("ERR value is out of range")]
    OutOfRange,
    #[error("ERR value is not a valid float")]
    NotAFloat,
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNxConflict,
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtLtConflict,
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    #[error("ERR offset is out of range")]
    Offset,
    #[error("ERR bit offset is not an integer or out of range")]
    BitOffset,
    #[error("ERR bit is not an integer or out of range")]
    BitValue,
    #[error("ERR The bit argument must be 1 or 0.")]
    BitArgument,
    #[error("ERR BITOP NOT must be called with a single source key.")]
    BitopNot,
    #[error(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
    )]
    BitfieldType,
    #[error("ERR Invalid OVERFLOW type specified")]
    BitfieldOverflow,
    #[error("ERR BITFIELD_RO only supports the GET subcommand")]
    BitfieldReadOnly,
    #[error("ERR min or max is not a float")]
    ScoreRange,
    #[error("ERR min or max not valid string range item")]
    LexRange,
    #[error("ERR no such key")]
    NoSuchKey,
    #[error("ERR value too large for this server")]
    ValueTooLarge,
    #[error("ERR key too long for this server")]
    KeyTooLong,
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    NoMemory,
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    #[error("ERR this server is busy, try again")]
    Busy,
    #[error("ERR internal error: the store failed")]
    Store,
    #[error("ERR the backend does not serve this operation")]
    Unsupported,
    #[error("ERR DB index is out of range")]
    DbIndex,
    #[error("ERR invalid DB index")]
    DbInvalid,
    #[error("ERR invalid cursor")]
    Cursor,
    #[error("ERR source and destination objects are the same")]
    SameObject,
    #[error("ERR If you want both the length and indexes, please just use IDX.")]
    LcsBoth,
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPass,
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
    )]
    AuthWithoutPassword,
    #[error("NOPROTO unsupported protocol version")]
    NoProto,
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtoNotAnInteger,
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    #[error("ERR {0} cannot contain spaces, newlines or special characters.")]
    LibName(&'static str),
    #[error("{0}")]
    Text(String),
}

impl Refusal {
    /// `unknown command`, with the beginning of its arguments.
    pub fn unknown_command<'a>(name: &[u8], args: impl Iterator<Item = &'a [u8]>) -> Refusal {
        let mut text = format!("ERR unknown command '{}', with args beginning with: ", quote(name));
        for arg in args {
            if text.len() >= QUOTE_LEN_BYTES_MAX {
                break;
            }
            let arg =
                &arg[..arg.len().min(QUOTE_LEN_BYTES_MAX - text.len().min(QUOTE_LEN_BYTES_MAX))];
            text.push_str(&format!("'{}' ", quote(arg)));
        }
        Refusal::Text(text)
    }

    /// A container that does not know its subcommand.
    pub fn unknown_subcommand(container: &str, name: &[u8]) -> Refusal {
        Refusal::Text(format!(
            "ERR unknown subcommand '{}'. Try {} HELP.",
            quote(name),
            container.to_ascii_uppercase()
        ))
    }

    /// Writes the error as a reply.
    pub fn write<S: Sink + ?Sized>(&self, w: &mut Writer<'_, S>) {
        w.error(self.to_string().as_bytes());
    }

    /// The code before the first blank, by which error statistics count.
    pub fn code(text: &[u8]) -> &[u8] {
        let code = text.split(|b| *b == b' ').next().unwrap_or(text);
        if !code.is_empty() && code.iter().all(|b| b.is_ascii_uppercase()) { code } else { b"ERR" }
    }
}

/// A client's text for an error line: bounded, and readable whatever its bytes are.
pub fn quote(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(QUOTE_LEN_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_commands_name_what_was_sent_within_bounds() {
        let args: [&[u8]; 2] = [b"a", b"b c"];
        assert_eq!(
            Refusal::unknown_command(b"nosuch", args.into_iter()).to_string(),
            "ERR unknown command 'nosuch', with args beginning with: 'a' 'b c' "
        );
        let long = [b'x'; 5000];
        let many: Vec<&[u8]> = vec![&long; 50];
        let text = Refusal::unknown_command(&long, many.into_iter()).to_string();
        assert!(text.len() < 3 * QUOTE_LEN_BYTES_MAX);
    }

    #[test]
    fn the_code_of_an_error_is_its_first_word() {
        assert_eq!(Refusal::code(b"WRONGTYPE Operation"), b"WRONGTYPE");
        assert_eq!(Refusal::code(b"odd text"), b"ERR");
    }
}
