//! Places on the earth as members of sorted sets: the arithmetic of the geo commands.
//!
//! ```text
//!  longitude, latitude ── cell ──> 52 bits = the score      search ──> ranges of scores
//!                      <── cell ──                                     that cover a shape
//! ```
//! Always true: a score is what Redis gives the same place, so that ZRANGE, ZSCORE and GEOHASH of
//! the same data answer the same. Nothing here knows of the store; `structs::geo` asks it, and
//! `structs::geosearch` does so in steps.

pub mod cell;
pub mod distance;
pub mod search;
