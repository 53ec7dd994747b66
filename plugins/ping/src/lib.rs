//! The ping protocol.
