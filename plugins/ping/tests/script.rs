//! Bytes in, bytes out.

use crucible_ping::Ping;
use crucible_plugin_testkit::{ModelBackend, Script, TestHost};

#[test]
fn a_ping_is_answered_and_anything_else_is_an_error() {
    Script::of::<Ping>("{}")
        .step("PING\r\n", "PONG\r\n")
        .step("ping\nPing\r\n", "PONG\r\nPONG\r\n")
        .step("PONG\r\n\r\n", "ERROR unknown command\r\n".repeat(2))
        .step("PING\r\n".repeat(200), "PONG\r\n".repeat(200))
        .run();
}

#[test]
fn a_line_longer_than_allowed_closes_the_connection() {
    Script::of::<Ping>(r#"{"line_len_max":8}"#)
        .step("PING\r\n", "PONG\r\n")
        .step("a line of many\r\n", "ERROR line too long\r\n")
        .closes()
        .run();
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let root = crucible_plugin_api::protocol_root::<Ping>(crucible_plugin_api::PluginInfo {
        name: "ping",
        version: "0",
    });
    for (settings, why) in [
        (r#"{"line_len_max":3}"#, "setting line_len_max: PING has four letters"),
        (r#"{"line_length":3}"#, "setting line_length: unknown field"),
    ] {
        let refused = host.protocol_of(root, settings, store).expect_err(settings);
        assert!(refused.starts_with(why), "{refused}");
    }
}
