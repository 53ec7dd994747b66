//! Changing what can change while serving.
//!
//! What must always be true: a reload takes effect as a whole or not at all,
//! and what cannot change at run time is refused by name. Called on SIGHUP and
//! by the admin server.

/// Reload on SIGHUP.
pub fn from_signal() {
    tracing::info!("SIGHUP: nothing to reload yet");
}
