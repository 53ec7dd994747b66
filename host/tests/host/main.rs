//! The real program over real sockets.

mod admin;
mod bad_input;
mod config_errors;
mod inspect;
mod later;
mod lifecycle;
mod no_io_uring;
mod plugin_tools;
mod plugins;
mod redis_crate;
mod serving;
mod support;
mod swap;
mod takeover;
mod tls;
