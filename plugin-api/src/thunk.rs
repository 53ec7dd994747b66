//! Catching panics at the edge of a plugin, and telling what they said.
//!
//! Always true: nothing that a plugin's author wrote can unwind through an
//! `extern "C"` function; every thunk of this crate goes through [`guard`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the author's code; a panic becomes its message.
pub(crate) fn guard<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(guard(|| 3), Ok(3));
        assert_eq!(guard(|| -> u8 { panic!("no {}", "way") }), Err("no way".to_owned()));
        assert_eq!(guard(|| -> u8 { panic!("plain") }), Err("plain".to_owned()));
    }
}
