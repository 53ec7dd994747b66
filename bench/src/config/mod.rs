//! Configuration in two steps: what the user wrote, then the checked plan that everything else reads.
//!
//! Always true: each key is read in one place ([`plan`]), and a key that nothing obeys does not exist.
//! Called by `main` and the tests.

pub mod choices;
pub mod plan;
pub mod units;
pub mod written;
