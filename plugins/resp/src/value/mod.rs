//! What commands compute on values: pure functions of bytes. They know neither store nor wire.

pub mod bitfield;
pub mod bits;
pub mod hll;
pub mod lcs;
pub mod range;
