//! Segment-structured storage backend.
