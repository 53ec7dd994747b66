//! The settings of a resp listener. Each key has exactly one reader.

use std::collections::BTreeMap;

use crucible_plugin_api::re::schemars::JsonSchema;
use crucible_plugin_api::re::serde::Deserialize;

/// Settings of the RESP protocol.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(crate = "crucible_plugin_api::re::serde", deny_unknown_fields, default)]
#[schemars(crate = "crucible_plugin_api::re::schemars")]
pub struct Settings {
    /// Longest bulk string of a request, in bytes; CONFIG's `proto-max-bulk-len`.
    pub bulk_len_bytes_max: u32,
    /// Most elements of a request array.
    pub array_len_max: u32,
    /// Longest request that is gathered before it runs, in bytes; CONFIG's
    /// `client-query-buffer-limit`. Bodies of SET that stream into the store do not count.
    pub request_len_bytes_max: u32,
    /// Values from this length on are received straight into the store, in bytes.
    pub stream_len_bytes_min: u32,
    /// Most commands of one transaction.
    pub transaction_commands_max: u32,
    /// Most bytes that the commands of one transaction take.
    pub transaction_len_bytes_max: u32,
    /// Most channels and patterns that one connection listens to.
    pub subscriptions_max: u32,
    /// Most bytes of messages that wait for one connection; over it the connection is closed.
    pub mailbox_len_bytes_max: u32,
    /// Most keys that CLIENT TRACKING remembers; over it some are invalidated early. CONFIG's
    /// `tracking-table-max-keys`.
    pub tracking_keys_max: u32,
    /// Whether MGET, MSET, DEL, UNLINK, EXISTS and TOUCH of several keys have the store to
    /// themselves, so that no other worker acts between two of the keys. With one worker they
    /// always have.
    pub several_keys_in_one_step: bool,
    /// Whether DEBUG commands are served; for test suites.
    pub debug_commands: bool,
    /// Whether SHUTDOWN is served.
    pub shutdown_command: bool,
    /// Commands that are not served, such as `["FLUSHALL", "KEYS"]`.
    pub disabled_commands: Vec<String>,
    /// Commands that are served under another name only, such as `{ FLUSHALL = "EMPTY-IT-ALL" }`.
    pub renamed_commands: BTreeMap<String, String>,
    /// The cluster this node belongs to; none: a single server.
    pub cluster: Option<Cluster>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            bulk_len_bytes_max: 512 << 20,
            array_len_max: 1 << 20,
            request_len_bytes_max: 1 << 30,
            stream_len_bytes_min: 64 << 10,
            transaction_commands_max: 65_536,
            transaction_len_bytes_max: 64 << 20,
            subscriptions_max: 65_536,
            mailbox_len_bytes_max: 32 << 20,
            tracking_keys_max: 1_000_000,
            several_keys_in_one_step: false,
            debug_commands: false,
            shutdown_command: false,
            disabled_commands: Vec::new(),
            renamed_commands: BTreeMap::new(),
            cluster: None,
        }
    }
}

/// A static map of a cluster: every node gets the same list and its own name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(crate = "crucible_plugin_api::re::serde", deny_unknown_fields)]
#[schemars(crate = "crucible_plugin_api::re::schemars")]
pub struct Cluster {
    /// Which of the nodes this one is.
    pub me: String,
    /// All nodes.
    pub nodes: Vec<Node>,
}

/// One node of the cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(crate = "crucible_plugin_api::re::serde", deny_unknown_fields)]
#[schemars(crate = "crucible_plugin_api::re::schemars")]
pub struct Node {
    /// Its name, unique; the identity that clients see derives from it.
    pub name: String,
    /// The host that clients are sent to.
    pub host: String,
    /// The port that clients are sent to.
    pub port: u16,
    /// Ranges of slots it serves, such as `0-5460`, or single ones.
    pub slots: Vec<String>,
}
