//! Results: samples, and the forms they leave the program in.
//!
//! Always true: nothing here measures; every number comes from a [`sample::Sample`]. Called by `run` and
//! by `main`.

pub mod json;
pub mod live;
pub mod machine;
pub mod parquet;
pub mod prometheus;
pub mod recorder;
pub mod row;
pub mod sample;
pub mod summary;
pub mod words;
