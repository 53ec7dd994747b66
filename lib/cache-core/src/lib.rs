//! lib/cache-core
