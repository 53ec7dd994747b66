//! lib/kompio
