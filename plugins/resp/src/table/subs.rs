//! Rows of the subcommands, container by container, in alphabetical order.

use super::flag::{
    ADMIN as ADM, LOADING as LD, NOSCRIPT as NS, PUBSUB as PS, READONLY as R, STALE as ST,
};
use super::{Keys, Sub};

const NO: Keys = Keys::NONE;

#[rustfmt::skip]
pub(super) static OBJECT: &[Sub] = &[
    Sub { name: "encoding", arity: 3, flags: R, keys: Keys::of(2, 2, 1), syntax: "key", summary: "How a value is held" },
    Sub { name: "freq", arity: 3, flags: R, keys: Keys::of(2, 2, 1), syntax: "key", summary: "How often a key was used" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "idletime", arity: 3, flags: R, keys: Keys::of(2, 2, 1), syntax: "key", summary: "Seconds since a key was used" },
    Sub { name: "refcount", arity: 3, flags: R, keys: Keys::of(2, 2, 1), syntax: "key", summary: "How many share the value" },
];

#[rustfmt::skip]
pub(super) static CLIENT: &[Sub] = &[
    Sub { name: "caching", arity: 3, flags: NS|LD|ST, keys: NO, syntax: "YES|NO", summary: "Says whether the next keys are tracked" },
    Sub { name: "getname", arity: 2, flags: NS|LD|ST, keys: NO, syntax: "", summary: "The name of the connection" },
    Sub { name: "getredir", arity: 2, flags: NS|LD|ST, keys: NO, syntax: "", summary: "Where invalidations are sent" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "id", arity: 2, flags: NS|LD|ST, keys: NO, syntax: "", summary: "The number of this connection" },
    Sub { name: "info", arity: 2, flags: NS|LD|ST, keys: NO, syntax: "", summary: "Facts about this connection" },
    Sub { name: "kill", arity: -3, flags: ADM|NS|LD|ST, keys: NO, syntax: "[ip:port] [ID client-id] [TYPE NORMAL|MASTER|REPLICA|PUBSUB] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME yes/no]", summary: "Closes connections" },
    Sub { name: "list", arity: -2, flags: ADM|NS|LD|ST, keys: NO, syntax: "[TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID client-id [client-id ...]]", summary: "Facts about all connections" },
    Sub { name: "no-evict", arity: 3, flags: ADM|NS|LD|ST, keys: NO, syntax: "ON|OFF", summary: "Spares the connection when memory for connections is short" },
    Sub { name: "no-touch", arity: 3, flags: NS|LD|ST, keys: NO, syntax: "ON|OFF", summary: "Leaves the recency of keys alone" },
    Sub { name: "pause", arity: -3, flags: ADM|NS|LD|ST, keys: NO, syntax: "timeout [WRITE|ALL]", summary: "Holds commands back for a while" },
    Sub { name: "reply", arity: 3, flags: NS|LD|ST, keys: NO, syntax: "ON|OFF|SKIP", summary: "Chooses whether commands are answered" },
    Sub { name: "setinfo", arity: 4, flags: NS|LD|ST, keys: NO, syntax: "LIB-NAME libname|LIB-VER libver", summary: "Names the library of the client" },
    Sub { name: "setname", arity: 3, flags: NS|LD|ST, keys: NO, syntax: "connection-name", summary: "Names the connection" },
    Sub { name: "tracking", arity: -3, flags: NS|LD|ST, keys: NO, syntax: "ON|OFF [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]", summary: "Sends the client invalidations of keys it has read" },
    Sub { name: "trackinginfo", arity: 2, flags: NS|LD|ST, keys: NO, syntax: "", summary: "The tracking state of the connection" },
    Sub { name: "unblock", arity: -3, flags: ADM|NS|LD|ST, keys: NO, syntax: "client-id [TIMEOUT|ERROR]", summary: "Ends the wait of a blocked connection" },
    Sub { name: "unpause", arity: 2, flags: ADM|NS|LD|ST, keys: NO, syntax: "", summary: "Ends a pause" },
];

#[rustfmt::skip]
pub(super) static ACL: &[Sub] = &[
    Sub { name: "cat", arity: -2, flags: NS|LD|ST, keys: NO, syntax: "[category]", summary: "Categories of commands" },
    Sub { name: "getuser", arity: 3, flags: ADM|NS|LD|ST, keys: NO, syntax: "username", summary: "What a user may do" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "list", arity: 2, flags: ADM|NS|LD|ST, keys: NO, syntax: "", summary: "The users and what they may do" },
    Sub { name: "users", arity: 2, flags: ADM|NS|LD|ST, keys: NO, syntax: "", summary: "The names of the users" },
    Sub { name: "whoami", arity: 2, flags: NS|LD|ST, keys: NO, syntax: "", summary: "The name of the user" },
];

#[rustfmt::skip]
pub(super) static COMMAND: &[Sub] = &[
    Sub { name: "count", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "How many commands there are" },
    Sub { name: "docs", arity: -2, flags: LD|ST, keys: NO, syntax: "[command-name ...]", summary: "Documentation of commands" },
    Sub { name: "getkeys", arity: -4, flags: LD|ST, keys: NO, syntax: "command [arg ...]", summary: "The keys in a command" },
    Sub { name: "getkeysandflags", arity: -4, flags: LD|ST, keys: NO, syntax: "command [arg ...]", summary: "The keys in a command and their use" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "info", arity: -2, flags: LD|ST, keys: NO, syntax: "[command-name ...]", summary: "Facts about commands" },
    Sub { name: "list", arity: -2, flags: LD|ST, keys: NO, syntax: "[FILTERBY MODULE module-name|ACLCAT category|PATTERN pattern]", summary: "Names of commands" },
];

#[rustfmt::skip]
pub(super) static CONFIG: &[Sub] = &[
    Sub { name: "get", arity: -3, flags: ADM|NS|LD|ST, keys: NO, syntax: "parameter [parameter ...]", summary: "Values of settings" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "resetstat", arity: 2, flags: ADM|NS|LD|ST, keys: NO, syntax: "", summary: "Sets counters back to zero" },
    Sub { name: "rewrite", arity: 2, flags: ADM|NS|LD|ST, keys: NO, syntax: "", summary: "Writes the settings to their file" },
    Sub { name: "set", arity: -4, flags: ADM|NS|LD|ST, keys: NO, syntax: "parameter value [parameter value ...]", summary: "Changes settings" },
];

#[rustfmt::skip]
pub(super) static LATENCY: &[Sub] = &[
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "histogram", arity: -2, flags: ADM|NS|LD|ST, keys: NO, syntax: "[command ...]", summary: "How long commands took, in buckets" },
    Sub { name: "history", arity: 3, flags: ADM|NS|LD|ST, keys: NO, syntax: "event", summary: "Spikes of an event" },
    Sub { name: "latest", arity: 2, flags: ADM|NS|LD|ST, keys: NO, syntax: "", summary: "The latest spikes" },
    Sub { name: "reset", arity: -2, flags: ADM|NS|LD|ST, keys: NO, syntax: "[event ...]", summary: "Forgets spikes" },
];

#[rustfmt::skip]
pub(super) static MEMORY: &[Sub] = &[
    Sub { name: "doctor", arity: 2, flags: 0, keys: NO, syntax: "", summary: "A look at the memory" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "malloc-stats", arity: 2, flags: 0, keys: NO, syntax: "", summary: "What the allocator says" },
    Sub { name: "purge", arity: 2, flags: 0, keys: NO, syntax: "", summary: "Asks the allocator to give memory back" },
    Sub { name: "stats", arity: 2, flags: 0, keys: NO, syntax: "", summary: "Memory in numbers" },
    Sub { name: "usage", arity: -3, flags: R, keys: Keys::of(2, 2, 1), syntax: "key [SAMPLES count]", summary: "Bytes that a key takes" },
];

#[rustfmt::skip]
pub(super) static MODULE: &[Sub] = &[
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "list", arity: 2, flags: ADM|NS, keys: NO, syntax: "", summary: "Lists loaded modules: none" },
];

#[rustfmt::skip]
pub(super) static SLOWLOG: &[Sub] = &[
    Sub { name: "get", arity: -2, flags: ADM|LD|ST, keys: NO, syntax: "[count]", summary: "The slowest commands" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "len", arity: 2, flags: ADM|LD|ST, keys: NO, syntax: "", summary: "How many commands are kept" },
    Sub { name: "reset", arity: 2, flags: ADM|LD|ST, keys: NO, syntax: "", summary: "Forgets them" },
];

#[rustfmt::skip]
pub(super) static PUBSUB: &[Sub] = &[
    Sub { name: "channels", arity: -2, flags: PS|LD|ST, keys: NO, syntax: "[pattern]", summary: "Channels with listeners" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "numpat", arity: 2, flags: PS|LD|ST, keys: NO, syntax: "", summary: "How many patterns are listened to" },
    Sub { name: "numsub", arity: -2, flags: PS|LD|ST, keys: NO, syntax: "[channel ...]", summary: "Listeners of channels" },
    Sub { name: "shardchannels", arity: -2, flags: PS|LD|ST, keys: NO, syntax: "[pattern]", summary: "Shard channels with listeners" },
    Sub { name: "shardnumsub", arity: -2, flags: PS|LD|ST, keys: NO, syntax: "[shardchannel ...]", summary: "Listeners of shard channels" },
];

#[rustfmt::skip]
pub(super) static CLUSTER: &[Sub] = &[
    Sub { name: "countkeysinslot", arity: 3, flags: ST, keys: NO, syntax: "slot", summary: "How many keys a slot holds" },
    Sub { name: "getkeysinslot", arity: 4, flags: ST, keys: NO, syntax: "slot count", summary: "Keys of a slot" },
    Sub { name: "help", arity: 2, flags: LD|ST, keys: NO, syntax: "", summary: "Lists the subcommands" },
    Sub { name: "info", arity: 2, flags: ST, keys: NO, syntax: "", summary: "The state of the cluster" },
    Sub { name: "keyslot", arity: 3, flags: ST, keys: NO, syntax: "key", summary: "The slot of a key" },
    Sub { name: "links", arity: 2, flags: ST, keys: NO, syntax: "", summary: "Links between nodes" },
    Sub { name: "myid", arity: 2, flags: ST, keys: NO, syntax: "", summary: "The identity of this node" },
    Sub { name: "myshardid", arity: 2, flags: ST, keys: NO, syntax: "", summary: "The identity of the shard of this node" },
    Sub { name: "nodes", arity: 2, flags: ST, keys: NO, syntax: "", summary: "The nodes of the cluster" },
    Sub { name: "shards", arity: 2, flags: ST, keys: NO, syntax: "", summary: "Which shard serves which slots" },
    Sub { name: "slots", arity: 2, flags: ST, keys: NO, syntax: "", summary: "Which node serves which slots" },
];
