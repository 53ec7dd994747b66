//! The RESP protocol: every Redis client connects unchanged.
//!
//! Rooms: [`frame`] cuts bytes into commands, [`table`] knows every command, [`write`] encodes
//! replies; the rest decides what a command does.
#![deny(unsafe_code)]

pub mod error;
pub mod frame;
pub mod glob;
pub mod number;
pub mod options;
pub mod table;
pub mod value;
pub mod write;
