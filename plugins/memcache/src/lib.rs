//! The memcache protocol.
#![deny(unsafe_code)]

pub mod base64;
pub mod binary;
pub mod exptime;
pub mod limits;
pub mod line;
pub mod meta;
pub mod number;
pub mod text;
