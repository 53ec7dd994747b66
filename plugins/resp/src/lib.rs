//! The resp protocol.
