//! plugin-api/testkit
