//! Driving a server: from the checked plan to samples.
//!
//! Always true: the conductor alone decides what the workers do; workers share nothing on the way of a
//! request. Called by `main`.

mod by_reference;
mod channel;
mod cluster;
pub mod conductor;
mod conn;
mod feed;
mod grpc;
mod md5;
mod pending;
pub mod route;
pub mod search;
pub mod server_cpu;
mod shared;
mod short;
mod source;
mod stamps;
pub mod tls;
pub mod verdict;
mod work;
mod worker;
