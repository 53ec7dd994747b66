//! The real program over real sockets.

mod admin;
mod bad_input;
mod config_errors;
mod lifecycle;
mod plugins;
mod serving;
mod support;
