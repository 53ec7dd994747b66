//! The memcache protocol.
