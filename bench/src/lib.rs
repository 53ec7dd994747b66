//! crucible-benchmark: a load generator for cache servers that tells the truth.
//!
//! Always true: what is reported was measured from intended send times where there is a schedule, values
//! were checked unless that was switched off, and a run that the generator itself could not keep up with
//! says so. Called by `main.rs`; the rooms are `config` → `workload` + `wire` → `run` → `record` → `view`.
#![deny(unsafe_code)]

pub mod cli;
pub mod compare;
pub mod config;
pub mod hist;
pub mod http;
pub mod record;
pub mod rng;
pub mod run;
pub mod trace;
pub mod view;
pub mod wire;
pub mod workload;
