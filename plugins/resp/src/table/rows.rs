//! The rows of the command table. Facts only: names, arities, flags and key positions are those of
//! Redis 7 and Valkey 9, so that clients which ask `COMMAND` route and validate as they are used to.

use super::flag::{
    ADMIN as ADM, ALLOW_BUSY as AB, BLOCKING as BLK, DENYOOM as OOM, FAST as F, ISOLATED as ISO,
    LOADING as LD, MOVABLEKEYS as MV, NO_AUTH as NA, NO_MANDATORY_KEYS as NMK, NO_MULTI as NM,
    NOSCRIPT as NS, PUBSUB as PS, READONLY as R, SKIP_MONITOR as SKM, SKIP_SLOWLOG as SKS,
    STALE as ST, WRITE as W,
};
use super::key_use::{
    ACCESS as ACC, DELETE as DEL, INSERT as INS, NOT_KEY as NOK, OW, RM, RO, RW, UPDATE as UPD,
    VARIABLE as VAR,
};
use super::{Group, Keys, Kind, Need, Spec, subs};

const NO: Keys = Keys::NONE;
const K1: Keys = Keys::of(1, 1, 1);
const KS: Keys = Keys::of(1, -1, 1);

macro_rules! need {
    (Structure $kind:ident) => {
        Need::Structure(Kind::$kind)
    };
    (Absent $why:literal) => {
        Need::Absent($why)
    };
    ($need:ident) => {
        Need::$need
    };
}

macro_rules! commands {
    ($($id:ident $name:literal $arity:expr, $flags:expr, $keys:expr, $use:expr, $group:ident,
        $since:literal, $need:ident $(($what:tt))?, $syntax:literal, $summary:literal,
        $subs:expr;)*) => {
        /// A command, by its row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Cmd { $($id),* }

        /// The table, in the order of [`Cmd`].
        pub static TABLE: [Spec; ALL.len()] = [$(Spec {
            name: $name,
            arity: $arity,
            flags: $flags,
            keys: $keys,
            key_use: $use,
            group: Group::$group,
            since: $since,
            need: need!($need $($what)?),
            syntax: $syntax,
            summary: $summary,
            subs: $subs,
        }),*];

        pub(super) const ALL: &[Cmd] = &[$(Cmd::$id),*];
    };
}

#[rustfmt::skip]
commands! {
    // string
    Append "append" 3, W|OOM|F, K1, RW|INS, String, "2.0.0", Store, "key value", "Puts text behind the value of a key, creating the key when absent", &[];
    Decr "decr" 2, W|OOM|F, K1, RW|ACC|UPD, String, "1.0.0", Store, "key", "Subtracts one from an integer value", &[];
    Decrby "decrby" 3, W|OOM|F, K1, RW|ACC|UPD, String, "1.0.0", Store, "key decrement", "Subtracts from an integer value", &[];
    Delifeq "delifeq" 3, W|F, K1, RM|DEL, String, "9.0.0", Store, "key value", "Removes a key when its value equals the given one", &[];
    Get "get" 2, R|F, K1, RO|ACC, String, "1.0.0", Store, "key", "The value of a key", &[];
    Getdel "getdel" 2, W|F, K1, RW|ACC|DEL, String, "6.2.0", Store, "key", "The value of a key, which is removed in the same step", &[];
    Getex "getex" -2, W|F, K1, RW|ACC|UPD, String, "6.2.0", Store, "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]", "The value of a key, whose time to live is set in the same step", &[];
    Getrange "getrange" 4, R, K1, RO|ACC, String, "2.4.0", Store, "key start end", "A part of a value", &[];
    Getset "getset" 3, W|OOM|F, K1, RW|ACC|UPD, String, "1.0.0", Store, "key value", "Sets a value and gives the previous one", &[];
    Incr "incr" 2, W|OOM|F, K1, RW|ACC|UPD, String, "1.0.0", Store, "key", "Adds one to an integer value", &[];
    Incrby "incrby" 3, W|OOM|F, K1, RW|ACC|UPD, String, "1.0.0", Store, "key increment", "Adds to an integer value", &[];
    Incrbyfloat "incrbyfloat" 3, W|OOM|F, K1, RW|ACC|UPD, String, "2.6.0", Modify, "key increment", "Adds to a floating point value", &[];
    Lcs "lcs" -3, R, Keys::of(1, 2, 1), RO|ACC, String, "7.0.0", Store, "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]", "The longest common subsequence of two values", &[];
    Mget "mget" -2, R|F, KS, RO|ACC, String, "1.0.0", Store, "key [key ...]", "The values of several keys", &[];
    Mset "mset" -3, W|OOM, Keys::of(1, -1, 2), OW|UPD, String, "1.0.1", Store, "key value [key value ...]", "Sets several keys", &[];
    Msetex "msetex" -4, W|OOM|MV|ISO, NO, 0, String, "9.1.0", Store, "numkeys key value [key value ...] [NX|XX] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]", "Sets several keys with one time to live", &[];
    Msetnx "msetnx" -3, W|OOM|ISO, Keys::of(1, -1, 2), OW|INS, String, "1.0.1", Store, "key value [key value ...]", "Sets several keys when none of them is present", &[];
    Psetex "psetex" 4, W|OOM, K1, OW|UPD, String, "2.6.0", Store, "key milliseconds value", "Sets a value with a time to live in milliseconds", &[];
    Set "set" -3, W|OOM, K1, RW|ACC|UPD|VAR, String, "1.0.0", Store, "key value [NX|XX|IFEQ comparison-value] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]", "Sets a value, under a condition and with a time to live if asked", &[];
    Setex "setex" 4, W|OOM, K1, OW|UPD, String, "2.0.0", Store, "key seconds value", "Sets a value with a time to live in seconds", &[];
    Setnx "setnx" 3, W|OOM|F, K1, OW|INS, String, "1.0.0", Store, "key value", "Sets a value when the key is absent", &[];
    Setrange "setrange" 4, W|OOM, K1, RW|UPD, String, "2.2.0", Modify, "key offset value", "Overwrites a part of a value", &[];
    Strlen "strlen" 2, R|F, K1, RO, String, "2.2.0", Store, "key", "The length of a value", &[];
    Substr "substr" 4, R, K1, RO|ACC, String, "1.0.0", Store, "key start end", "A part of a value (the old name of GETRANGE)", &[];
    // bitmap
    Bitcount "bitcount" -2, R, K1, RO|ACC, Bitmap, "2.6.0", Store, "key [start end [BYTE|BIT]]", "Counts the set bits of a value or of a range of it", &[];
    Bitfield "bitfield" -2, W|OOM, K1, RW|ACC|UPD|VAR, Bitmap, "3.2.0", Modify, "key [GET encoding offset | [OVERFLOW WRAP|SAT|FAIL] SET encoding offset value|INCRBY encoding offset increment ...]", "Reads and changes integers of any width inside a value", &[];
    BitfieldRo "bitfield_ro" -2, R|F, K1, RO|ACC, Bitmap, "6.0.0", Store, "key [GET encoding offset ...]", "Reads integers of any width inside a value", &[];
    Bitop "bitop" -4, W|OOM|ISO, Keys::of(2, -1, 1), OW|UPD, Bitmap, "2.6.0", Store, "AND|OR|XOR|NOT destkey key [key ...]", "Stores the bitwise combination of values", &[];
    Bitpos "bitpos" -3, R, K1, RO|ACC, Bitmap, "2.8.7", Store, "key bit [start [end [BYTE|BIT]]]", "Finds the first set or clear bit", &[];
    Getbit "getbit" 3, R|F, K1, RO|ACC, Bitmap, "2.2.0", Store, "key offset", "One bit of a value", &[];
    Setbit "setbit" 4, W|OOM, K1, RW|ACC|UPD, Bitmap, "2.2.0", Modify, "key offset value", "Sets or clears one bit of a value", &[];
    // generic
    Copy "copy" -3, W|OOM|ISO, Keys::of(1, 2, 1), RO|ACC, Generic, "6.2.0", Store, "source destination [DB destination-db] [REPLACE]", "Copies a value with its time to live to another key", &[];
    Del "del" -2, W, KS, RM|DEL, Generic, "1.0.0", Store, "key [key ...]", "Removes keys", &[];
    Dump "dump" 2, R, K1, RO|ACC, Generic, "2.6.0", Store, "key", "Serializes a value in the format of a snapshot", &[];
    Exists "exists" -2, R|F, KS, RO, Generic, "1.0.0", Store, "key [key ...]", "Counts how many of the keys are present", &[];
    Expire "expire" -3, W|F, K1, RW|UPD, Generic, "1.0.0", Store, "key seconds [NX|XX|GT|LT]", "Sets the time to live in seconds", &[];
    Expireat "expireat" -3, W|F, K1, RW|UPD, Generic, "1.2.0", Store, "key unix-time-seconds [NX|XX|GT|LT]", "Sets the time of death in seconds of unix time", &[];
    Expiretime "expiretime" 2, R|F, K1, RO|ACC, Generic, "7.0.0", Store, "key", "The time of death in seconds of unix time", &[];
    Keys "keys" 2, R, NO, 0, Generic, "1.0.0", Scan, "pattern", "All keys that match a pattern", &[];
    Object "object" -2, 0, NO, 0, Generic, "2.2.3", Store, "", "Facts about the value of a key", subs::OBJECT;
    Persist "persist" 2, W|F, K1, RW|UPD, Generic, "2.2.0", Store, "key", "Takes the time to live away", &[];
    Pexpire "pexpire" -3, W|F, K1, RW|UPD, Generic, "2.6.0", Store, "key milliseconds [NX|XX|GT|LT]", "Sets the time to live in milliseconds", &[];
    Pexpireat "pexpireat" -3, W|F, K1, RW|UPD, Generic, "2.6.0", Store, "key unix-time-milliseconds [NX|XX|GT|LT]", "Sets the time of death in milliseconds of unix time", &[];
    Pexpiretime "pexpiretime" 2, R|F, K1, RO|ACC, Generic, "7.0.0", Store, "key", "The time of death in milliseconds of unix time", &[];
    Pttl "pttl" 2, R|F, K1, RO|ACC, Generic, "2.6.0", Store, "key", "The time to live in milliseconds", &[];
    Randomkey "randomkey" 1, R, NO, 0, Generic, "1.0.0", Scan, "", "A key picked at random", &[];
    Rename "rename" 3, W|ISO, Keys::of(1, 2, 1), RW|ACC|DEL, Generic, "1.0.0", Store, "key newkey", "Gives a value another key", &[];
    Renamenx "renamenx" 3, W|F|ISO, Keys::of(1, 2, 1), RW|ACC|DEL, Generic, "1.0.0", Store, "key newkey", "Gives a value another key when that is absent", &[];
    Restore "restore" -4, W|OOM, K1, OW|UPD, Generic, "2.6.0", Store, "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]", "Stores a value that DUMP serialized", &[];
    Scan "scan" -2, R, NO, 0, Generic, "2.8.0", Scan, "cursor [MATCH pattern] [COUNT count] [TYPE type]", "Walks over the keys in steps", &[];
    Sort "sort" -2, W|OOM|MV|ISO, K1, RO|ACC, Generic, "1.0.0", Structure(List), "key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE destination]", "Sorts the elements of a list, set or sorted set, and may store the result", &[];
    SortRo "sort_ro" -2, R|MV|ISO, K1, RO|ACC, Generic, "7.0.0", Structure(List), "key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA]", "Sorts the elements of a list, set or sorted set", &[];
    Touch "touch" -2, R|F, KS, RO, Generic, "3.2.1", Store, "key [key ...]", "Marks keys as used and counts those present", &[];
    Ttl "ttl" 2, R|F, K1, RO|ACC, Generic, "1.0.0", Store, "key", "The time to live in seconds", &[];
    Type "type" 2, R|F, K1, RO, Generic, "1.0.0", Store, "key", "The kind of a value", &[];
    Unlink "unlink" -2, W|F, KS, RM|DEL, Generic, "4.0.0", Store, "key [key ...]", "Removes keys", &[];
    Wait "wait" 3, NS, NO, 0, Generic, "3.0.0", Nothing, "numreplicas timeout", "Waits for replicas, of which there are none", &[];
    // connection
    Auth "auth" -2, NS|LD|ST|F|NA|AB, NO, 0, Connection, "1.0.0", Nothing, "[username] password", "Proves who the client is", &[];
    Client "client" -2, 0, NO, 0, Connection, "2.4.0", Nothing, "", "Asks about connections and controls them", subs::CLIENT;
    Echo "echo" 2, LD|ST|F, NO, 0, Connection, "1.0.0", Nothing, "message", "Gives the message back", &[];
    Hello "hello" -1, NS|LD|ST|F|NA|AB, NO, 0, Connection, "6.0.0", Nothing, "[protover [AUTH username password] [SETNAME clientname]]", "Chooses the protocol version and introduces the client", &[];
    Ping "ping" -1, F, NO, 0, Connection, "1.0.0", Nothing, "[message]", "Answers PONG or the message", &[];
    Quit "quit" -1, NS|LD|ST|F|NA|AB, NO, 0, Connection, "1.0.0", Nothing, "", "Closes the connection", &[];
    Reset "reset" 1, NS|LD|ST|F|NA|AB, NO, 0, Connection, "6.2.0", Nothing, "", "Puts the connection back into its first state", &[];
    Select "select" 2, LD|ST|F, NO, 0, Connection, "1.0.0", Nothing, "index", "Chooses the database; there is one, 0", &[];
    // server
    Acl "acl" -2, 0, NO, 0, Server, "6.0.0", Nothing, "", "Asks about users", subs::ACL;
    Command "command" -1, LD|ST, NO, 0, Server, "2.8.13", Nothing, "", "Describes the commands of this server", subs::COMMAND;
    Config "config" -2, 0, NO, 0, Server, "2.0.0", Nothing, "", "Reads and changes settings of the running server", subs::CONFIG;
    Dbsize "dbsize" 1, R|F, NO, 0, Server, "1.0.0", Store, "", "Counts the keys", &[];
    Debug "debug" -2, ADM|NS|LD|ST, NO, 0, Server, "1.0.0", Nothing, "", "Helps test suites; off unless the settings allow it", &[];
    Flushall "flushall" -1, W, NO, 0, Server, "1.0.0", Store, "[ASYNC|SYNC]", "Removes every key", &[];
    Flushdb "flushdb" -1, W, NO, 0, Server, "1.0.0", Store, "[ASYNC|SYNC]", "Removes every key", &[];
    Info "info" -1, LD|ST, NO, 0, Server, "1.0.0", Nothing, "[section ...]", "Facts and counters of the server", &[];
    Latency "latency" -2, 0, NO, 0, Server, "2.8.13", Nothing, "", "How long commands took", subs::LATENCY;
    Lolwut "lolwut" -1, R|F, NO, 0, Server, "5.0.0", Nothing, "[VERSION version]", "A picture and the version", &[];
    Memory "memory" -2, 0, NO, 0, Server, "4.0.0", Store, "", "How much memory things take", subs::MEMORY;
    Module "module" -2, 0, NO, 0, Server, "4.0.0", Nothing, "", "Lists loaded modules: none", subs::MODULE;
    Monitor "monitor" 1, ADM|NS|LD|ST, NO, 0, Server, "1.0.0", Nothing, "", "Streams every command that the server runs", &[];
    Role "role" 1, NS|LD|ST|F, NO, 0, Server, "2.8.12", Nothing, "", "The role in replication: always master", &[];
    Shutdown "shutdown" -1, ADM|NS|LD|ST|NM|AB, NO, 0, Server, "1.0.0", Nothing, "[NOSAVE|SAVE] [NOW] [FORCE] [ABORT]", "Drains and ends the server, if the settings allow it", &[];
    Slowlog "slowlog" -2, 0, NO, 0, Server, "2.2.12", Nothing, "", "The slowest commands", subs::SLOWLOG;
    Time "time" 1, LD|ST|F, NO, 0, Server, "2.6.0", Nothing, "", "The clock of the server", &[];
    // transactions
    Discard "discard" 1, NS|LD|ST|F|AB, NO, 0, Transactions, "2.0.0", Nothing, "", "Drops a transaction that was begun", &[];
    Exec "exec" 1, NS|LD|ST|SKS|ISO, NO, 0, Transactions, "1.2.0", Nothing, "", "Runs the commands of a transaction", &[];
    Multi "multi" 1, NS|LD|ST|F|AB, NO, 0, Transactions, "1.2.0", Nothing, "", "Begins a transaction", &[];
    Unwatch "unwatch" 1, NS|LD|ST|F|AB, NO, 0, Transactions, "2.2.0", Nothing, "", "Forgets the watched keys", &[];
    Watch "watch" -2, NS|LD|ST|F|AB, KS, RO, Transactions, "2.2.0", Store, "key [key ...]", "Makes the next transaction depend on keys staying unchanged", &[];
    // pubsub
    Psubscribe "psubscribe" -2, PS|NS|LD|ST, NO, 0, Pubsub, "2.0.0", Nothing, "pattern [pattern ...]", "Listens to the channels that match patterns", &[];
    Publish "publish" 3, PS|LD|ST|F, NO, 0, Pubsub, "2.0.0", Nothing, "channel message", "Sends a message to the listeners of a channel", &[];
    Pubsub "pubsub" -2, 0, NO, 0, Pubsub, "2.8.0", Nothing, "", "Asks about channels and their listeners", subs::PUBSUB;
    Punsubscribe "punsubscribe" -1, PS|NS|LD|ST, NO, 0, Pubsub, "2.0.0", Nothing, "[pattern [pattern ...]]", "Stops listening to patterns", &[];
    Spublish "spublish" 3, PS|LD|ST|F, K1, NOK, Pubsub, "7.0.0", Nothing, "shardchannel message", "Sends a message to the listeners of a shard channel", &[];
    Ssubscribe "ssubscribe" -2, PS|NS|LD|ST, KS, NOK, Pubsub, "7.0.0", Nothing, "shardchannel [shardchannel ...]", "Listens to shard channels", &[];
    Subscribe "subscribe" -2, PS|NS|LD|ST, NO, 0, Pubsub, "2.0.0", Nothing, "channel [channel ...]", "Listens to channels", &[];
    Sunsubscribe "sunsubscribe" -1, PS|NS|LD|ST, KS, NOK, Pubsub, "7.0.0", Nothing, "[shardchannel [shardchannel ...]]", "Stops listening to shard channels", &[];
    Unsubscribe "unsubscribe" -1, PS|NS|LD|ST, NO, 0, Pubsub, "2.0.0", Nothing, "[channel [channel ...]]", "Stops listening to channels", &[];
    // cluster
    Asking "asking" 1, F, NO, 0, Cluster, "3.0.0", Nothing, "", "Lets the next command through to a slot that is being imported", &[];
    Cluster "cluster" -2, 0, NO, 0, Cluster, "3.0.0", Nothing, "", "Asks about the cluster map", subs::CLUSTER;
    Readonly "readonly" 1, LD|ST|F, NO, 0, Cluster, "3.0.0", Nothing, "", "Lets reads of foreign slots through", &[];
    Readwrite "readwrite" 1, LD|ST|F, NO, 0, Cluster, "3.0.0", Nothing, "", "Ends the mode of READONLY", &[];
    // scripting
    Eval "eval" -3, NS|ST|SKM|NMK|MV, NO, RW|ACC|UPD, Scripting, "2.6.0", Absent("scripts are not served"), "", "", &[];
    EvalRo "eval_ro" -3, R|NS|ST|SKM|NMK|MV, NO, RO|ACC, Scripting, "7.0.0", Absent("scripts are not served"), "", "", &[];
    Evalsha "evalsha" -3, NS|ST|SKM|NMK|MV, NO, RW|ACC|UPD, Scripting, "2.6.0", Absent("scripts are not served"), "", "", &[];
    EvalshaRo "evalsha_ro" -3, R|NS|ST|SKM|NMK|MV, NO, RO|ACC, Scripting, "7.0.0", Absent("scripts are not served"), "", "", &[];
    Fcall "fcall" -3, NS|ST|SKM|NMK|MV, NO, RW|ACC|UPD, Scripting, "7.0.0", Absent("scripts are not served"), "", "", &[];
    FcallRo "fcall_ro" -3, R|NS|ST|SKM|NMK|MV, NO, RO|ACC, Scripting, "7.0.0", Absent("scripts are not served"), "", "", &[];
    Function "function" -2, 0, NO, 0, Scripting, "7.0.0", Absent("scripts are not served"), "", "", &[];
    Script "script" -2, 0, NO, 0, Scripting, "2.6.0", Absent("scripts are not served"), "", "", &[];
    // hash
    Hexpire "hexpire" -6, W|OOM|F, K1, RW|UPD, Hash, "7.4.0", Structure(Hash), "key seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]", "Sets the time to live of fields in seconds", &[];
    Hexpireat "hexpireat" -6, W|OOM|F, K1, RW|UPD, Hash, "7.4.0", Structure(Hash), "key unix-time-seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]", "Sets the time of death of fields in seconds of unix time", &[];
    Hexpiretime "hexpiretime" -5, R|F, K1, RO|ACC, Hash, "7.4.0", Structure(Hash), "key FIELDS numfields field [field ...]", "The time of death of fields in seconds of unix time", &[];
    Hgetdel "hgetdel" -5, W|F, K1, RW|ACC|DEL, Hash, "8.0.0", Structure(Hash), "key FIELDS numfields field [field ...]", "The values of fields, which are removed in the same step", &[];
    Hgetex "hgetex" -5, W|F, K1, RW|ACC|UPD, Hash, "8.0.0", Structure(Hash), "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST] FIELDS numfields field [field ...]", "The values of fields, whose time to live is set in the same step", &[];
    Hpersist "hpersist" -5, W|F, K1, RW|UPD, Hash, "7.4.0", Structure(Hash), "key FIELDS numfields field [field ...]", "Takes the time to live of fields away", &[];
    Hpexpire "hpexpire" -6, W|OOM|F, K1, RW|UPD, Hash, "7.4.0", Structure(Hash), "key milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]", "Sets the time to live of fields in milliseconds", &[];
    Hpexpireat "hpexpireat" -6, W|OOM|F, K1, RW|UPD, Hash, "7.4.0", Structure(Hash), "key unix-time-milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]", "Sets the time of death of fields in milliseconds of unix time", &[];
    Hpexpiretime "hpexpiretime" -5, R|F, K1, RO|ACC, Hash, "7.4.0", Structure(Hash), "key FIELDS numfields field [field ...]", "The time of death of fields in milliseconds of unix time", &[];
    Hpttl "hpttl" -5, R|F, K1, RO|ACC, Hash, "7.4.0", Structure(Hash), "key FIELDS numfields field [field ...]", "The time to live of fields in milliseconds", &[];
    Hsetex "hsetex" -6, W|OOM|F, K1, RW|UPD, Hash, "8.0.0", Structure(Hash), "key [FNX|FXX] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL] FIELDS numfields field value [field value ...]", "Sets fields with a time to live", &[];
    Httl "httl" -5, R|F, K1, RO|ACC, Hash, "7.4.0", Structure(Hash), "key FIELDS numfields field [field ...]", "The time to live of fields in seconds", &[];
    Hdel "hdel" -3, W|F, K1, RW|DEL, Hash, "2.0.0", Structure(Hash), "key field [field ...]", "Removes fields", &[];
    Hexists "hexists" 3, R|F, K1, RO, Hash, "2.0.0", Structure(Hash), "key field", "Whether a field is there", &[];
    Hget "hget" 3, R|F, K1, RO|ACC, Hash, "2.0.0", Structure(Hash), "key field", "The value of a field", &[];
    Hgetall "hgetall" 2, R, K1, RO|ACC, Hash, "2.0.0", Structure(Hash), "key", "All fields with their values", &[];
    Hincrby "hincrby" 4, W|OOM|F, K1, RW|ACC|UPD, Hash, "2.0.0", Structure(Hash), "key field increment", "Adds to an integer in a field", &[];
    Hincrbyfloat "hincrbyfloat" 4, W|OOM|F, K1, RW|ACC|UPD, Hash, "2.6.0", Structure(Hash), "key field increment", "Adds to a floating point number in a field", &[];
    Hkeys "hkeys" 2, R, K1, RO|ACC, Hash, "2.0.0", Structure(Hash), "key", "All fields", &[];
    Hlen "hlen" 2, R|F, K1, RO, Hash, "2.0.0", Structure(Hash), "key", "Counts the fields", &[];
    Hmget "hmget" -3, R|F, K1, RO|ACC, Hash, "2.0.0", Structure(Hash), "key field [field ...]", "The values of several fields", &[];
    Hmset "hmset" -4, W|OOM|F, K1, RW|UPD, Hash, "2.0.0", Structure(Hash), "key field value [field value ...]", "Sets several fields (the old form of HSET)", &[];
    Hrandfield "hrandfield" -2, R, K1, RO|ACC, Hash, "6.2.0", Structure(Hash), "key [count [WITHVALUES]]", "Fields picked at random", &[];
    Hscan "hscan" -3, R, K1, RO|ACC, Hash, "2.8.0", Structure(Hash), "key cursor [MATCH pattern] [COUNT count] [NOVALUES]", "Walks over the fields in steps", &[];
    Hset "hset" -4, W|OOM|F, K1, RW|UPD, Hash, "2.0.0", Structure(Hash), "key field value [field value ...]", "Sets fields and counts the new ones", &[];
    Hsetnx "hsetnx" 4, W|OOM|F, K1, RW|INS, Hash, "2.0.0", Structure(Hash), "key field value", "Sets a field when it is absent", &[];
    Hstrlen "hstrlen" 3, R|F, K1, RO, Hash, "3.2.0", Structure(Hash), "key field", "The length of the value of a field", &[];
    Hvals "hvals" 2, R, K1, RO|ACC, Hash, "2.0.0", Structure(Hash), "key", "All values", &[];
    // list
    Blmove "blmove" 6, W|OOM|NS|BLK, Keys::of(1, 2, 1), RW|ACC|DEL, List, "6.2.0", Structure(List), "source destination LEFT|RIGHT LEFT|RIGHT timeout", "As LMOVE, waits for an element", &[];
    Blmpop "blmpop" -5, W|BLK|MV, NO, RW|ACC|DEL, List, "7.0.0", Structure(List), "timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]", "As LMPOP, waits for an element", &[];
    Blpop "blpop" -3, W|NS|BLK, Keys::of(1, -2, 1), RW|ACC|DEL, List, "2.0.0", Structure(List), "key [key ...] timeout", "Takes the first element of the first list that has one, waits for it", &[];
    Brpop "brpop" -3, W|NS|BLK, Keys::of(1, -2, 1), RW|ACC|DEL, List, "2.0.0", Structure(List), "key [key ...] timeout", "Takes the last element of the first list that has one, waits for it", &[];
    Brpoplpush "brpoplpush" 4, W|OOM|NS|BLK, Keys::of(1, 2, 1), RW|ACC|DEL, List, "2.2.0", Structure(List), "source destination timeout", "As RPOPLPUSH, waits for an element", &[];
    Lindex "lindex" 3, R, K1, RO|ACC, List, "1.0.0", Structure(List), "key index", "The element at an index", &[];
    Linsert "linsert" 5, W|OOM, K1, RW|INS, List, "2.2.0", Structure(List), "key BEFORE|AFTER pivot element", "Inserts an element next to another", &[];
    Llen "llen" 2, R|F, K1, RO, List, "1.0.0", Structure(List), "key", "Counts the elements", &[];
    Lmove "lmove" 5, W|OOM, Keys::of(1, 2, 1), RW|ACC|DEL, List, "6.2.0", Structure(List), "source destination LEFT|RIGHT LEFT|RIGHT", "Moves an element from an end of a list to an end of another", &[];
    Lmpop "lmpop" -4, W|MV, NO, RW|ACC|DEL, List, "7.0.0", Structure(List), "numkeys key [key ...] LEFT|RIGHT [COUNT count]", "Takes elements from the first list that has any", &[];
    Lpop "lpop" -2, W|F, K1, RW|ACC|DEL, List, "1.0.0", Structure(List), "key [count]", "Takes the first elements", &[];
    Lpos "lpos" -3, R, K1, RO|ACC, List, "6.0.6", Structure(List), "key element [RANK rank] [COUNT num-matches] [MAXLEN len]", "Where an element stands", &[];
    Lpush "lpush" -3, W|OOM|F, K1, RW|INS, List, "1.0.0", Structure(List), "key element [element ...]", "Puts elements before the first", &[];
    Lpushx "lpushx" -3, W|OOM|F, K1, RW|INS, List, "2.2.0", Structure(List), "key element [element ...]", "Puts elements before the first of a list that is there", &[];
    Lrange "lrange" 4, R, K1, RO|ACC, List, "1.0.0", Structure(List), "key start stop", "The elements of a range", &[];
    Lrem "lrem" 4, W, K1, RW|DEL, List, "1.0.0", Structure(List), "key count element", "Removes elements that equal the given one", &[];
    Lset "lset" 4, W|OOM, K1, RW|UPD, List, "1.0.0", Structure(List), "key index element", "Replaces the element at an index", &[];
    Ltrim "ltrim" 4, W, K1, RW|DEL, List, "1.0.0", Structure(List), "key start stop", "Removes all elements outside of a range", &[];
    Rpop "rpop" -2, W|F, K1, RW|ACC|DEL, List, "1.0.0", Structure(List), "key [count]", "Takes the last elements", &[];
    Rpoplpush "rpoplpush" 3, W|OOM, Keys::of(1, 2, 1), RW|ACC|DEL, List, "1.2.0", Structure(List), "source destination", "Moves the last element of a list before the first of another", &[];
    Rpush "rpush" -3, W|OOM|F, K1, RW|INS, List, "1.0.0", Structure(List), "key element [element ...]", "Puts elements behind the last", &[];
    Rpushx "rpushx" -3, W|OOM|F, K1, RW|INS, List, "2.2.0", Structure(List), "key element [element ...]", "Puts elements behind the last of a list that is there", &[];
    // set
    Sadd "sadd" -3, W|OOM|F, K1, RW|INS, Set, "1.0.0", Structure(Set), "key member [member ...]", "Adds members", &[];
    Scard "scard" 2, R|F, K1, RO, Set, "1.0.0", Structure(Set), "key", "Counts the members", &[];
    Sdiff "sdiff" -2, R, KS, RO|ACC, Set, "1.0.0", Structure(Set), "key [key ...]", "Members of the first set that no other has", &[];
    Sdiffstore "sdiffstore" -3, W|OOM, KS, OW|UPD, Set, "1.0.0", Structure(Set), "destination key [key ...]", "Stores what SDIFF gives", &[];
    Sinter "sinter" -2, R, KS, RO|ACC, Set, "1.0.0", Structure(Set), "key [key ...]", "Members that all sets have", &[];
    Sintercard "sintercard" -3, R|MV, NO, RO|ACC, Set, "7.0.0", Structure(Set), "numkeys key [key ...] [LIMIT limit]", "Counts the members that all sets have", &[];
    Sinterstore "sinterstore" -3, W|OOM, KS, RW|UPD, Set, "1.0.0", Structure(Set), "destination key [key ...]", "Stores what SINTER gives", &[];
    Sismember "sismember" 3, R|F, K1, RO, Set, "1.0.0", Structure(Set), "key member", "Whether a member is in the set", &[];
    Smembers "smembers" 2, R, K1, RO|ACC, Set, "1.0.0", Structure(Set), "key", "All members", &[];
    Smismember "smismember" -3, R|F, K1, RO|ACC, Set, "6.2.0", Structure(Set), "key member [member ...]", "Which members are in the set", &[];
    Smove "smove" 4, W|F, Keys::of(1, 2, 1), RW|ACC|DEL, Set, "1.0.0", Structure(Set), "source destination member", "Moves a member to another set", &[];
    Spop "spop" -2, W|F, K1, RW|ACC|DEL, Set, "1.0.0", Structure(Set), "key [count]", "Takes members picked at random", &[];
    Srandmember "srandmember" -2, R, K1, RO|ACC, Set, "1.0.0", Structure(Set), "key [count]", "Members picked at random", &[];
    Srem "srem" -3, W|F, K1, RW|DEL, Set, "1.0.0", Structure(Set), "key member [member ...]", "Removes members", &[];
    Sscan "sscan" -3, R, K1, RO|ACC, Set, "2.8.0", Structure(Set), "key cursor [MATCH pattern] [COUNT count]", "Walks over the members in steps", &[];
    Sunion "sunion" -2, R, KS, RO|ACC, Set, "1.0.0", Structure(Set), "key [key ...]", "Members that any set has", &[];
    Sunionstore "sunionstore" -3, W|OOM, KS, OW|UPD, Set, "1.0.0", Structure(Set), "destination key [key ...]", "Stores what SUNION gives", &[];
    // sorted-set
    Bzmpop "bzmpop" -5, W|BLK|MV, NO, RW|ACC|DEL, SortedSet, "7.0.0", Structure(SortedSet), "timeout numkeys key [key ...] MIN|MAX [COUNT count]", "As ZMPOP, waits for a member", &[];
    Bzpopmax "bzpopmax" -3, W|NS|BLK|F, Keys::of(1, -2, 1), RW|ACC|DEL, SortedSet, "5.0.0", Structure(SortedSet), "key [key ...] timeout", "Takes the highest member of the first sorted set that has one, waits for it", &[];
    Bzpopmin "bzpopmin" -3, W|NS|BLK|F, Keys::of(1, -2, 1), RW|ACC|DEL, SortedSet, "5.0.0", Structure(SortedSet), "key [key ...] timeout", "Takes the lowest member of the first sorted set that has one, waits for it", &[];
    Zadd "zadd" -4, W|OOM|F, K1, RW|UPD, SortedSet, "1.2.0", Structure(SortedSet), "key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]", "Adds members, or changes their scores", &[];
    Zcard "zcard" 2, R|F, K1, RO, SortedSet, "1.2.0", Structure(SortedSet), "key", "Counts the members", &[];
    Zcount "zcount" 4, R|F, K1, RO|ACC, SortedSet, "2.0.0", Structure(SortedSet), "key min max", "Counts the members within a range of scores", &[];
    Zdiff "zdiff" -3, R|MV, NO, RO|ACC, SortedSet, "6.2.0", Structure(SortedSet), "numkeys key [key ...] [WITHSCORES]", "Members of the first sorted set that no other has", &[];
    Zdiffstore "zdiffstore" -4, W|OOM|MV, K1, OW|UPD, SortedSet, "6.2.0", Structure(SortedSet), "destination numkeys key [key ...]", "Stores what ZDIFF gives", &[];
    Zincrby "zincrby" 4, W|OOM|F, K1, RW|ACC|UPD, SortedSet, "1.2.0", Structure(SortedSet), "key increment member", "Adds to the score of a member", &[];
    Zinter "zinter" -3, R|MV, NO, RO|ACC, SortedSet, "6.2.0", Structure(SortedSet), "numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]", "Members that all sorted sets have", &[];
    Zintercard "zintercard" -3, R|MV, NO, RO|ACC, SortedSet, "7.0.0", Structure(SortedSet), "numkeys key [key ...] [LIMIT limit]", "Counts the members that all sorted sets have", &[];
    Zinterstore "zinterstore" -4, W|OOM|MV, K1, OW|UPD, SortedSet, "2.0.0", Structure(SortedSet), "destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX]", "Stores what ZINTER gives", &[];
    Zlexcount "zlexcount" 4, R|F, K1, RO|ACC, SortedSet, "2.8.9", Structure(SortedSet), "key min max", "Counts the members within a range of members", &[];
    Zmpop "zmpop" -4, W|MV, NO, RW|ACC|DEL, SortedSet, "7.0.0", Structure(SortedSet), "numkeys key [key ...] MIN|MAX [COUNT count]", "Takes members from the first sorted set that has any", &[];
    Zmscore "zmscore" -3, R|F, K1, RO|ACC, SortedSet, "6.2.0", Structure(SortedSet), "key member [member ...]", "The scores of members", &[];
    Zpopmax "zpopmax" -2, W|F, K1, RW|ACC|DEL, SortedSet, "5.0.0", Structure(SortedSet), "key [count]", "Takes the highest members", &[];
    Zpopmin "zpopmin" -2, W|F, K1, RW|ACC|DEL, SortedSet, "5.0.0", Structure(SortedSet), "key [count]", "Takes the lowest members", &[];
    Zrandmember "zrandmember" -2, R, K1, RO|ACC, SortedSet, "6.2.0", Structure(SortedSet), "key [count [WITHSCORES]]", "Members picked at random", &[];
    Zrange "zrange" -4, R, K1, RO|ACC, SortedSet, "1.2.0", Structure(SortedSet), "key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]", "The members within a range of ranks, scores or members", &[];
    Zrangebylex "zrangebylex" -4, R, K1, RO|ACC, SortedSet, "2.8.9", Structure(SortedSet), "key min max [LIMIT offset count]", "The members within a range of members", &[];
    Zrangebyscore "zrangebyscore" -4, R, K1, RO|ACC, SortedSet, "1.0.5", Structure(SortedSet), "key min max [WITHSCORES] [LIMIT offset count]", "The members within a range of scores", &[];
    Zrangestore "zrangestore" -5, W|OOM, Keys::of(1, 2, 1), OW|UPD, SortedSet, "6.2.0", Structure(SortedSet), "dst src min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]", "Stores what ZRANGE gives", &[];
    Zrank "zrank" -3, R|F, K1, RO|ACC, SortedSet, "2.0.0", Structure(SortedSet), "key member [WITHSCORE]", "The rank of a member, counted from the lowest", &[];
    Zrem "zrem" -3, W|F, K1, RW|DEL, SortedSet, "1.2.0", Structure(SortedSet), "key member [member ...]", "Removes members", &[];
    Zremrangebylex "zremrangebylex" 4, W, K1, RW|DEL, SortedSet, "2.8.9", Structure(SortedSet), "key min max", "Removes the members within a range of members", &[];
    Zremrangebyrank "zremrangebyrank" 4, W, K1, RW|DEL, SortedSet, "2.0.0", Structure(SortedSet), "key start stop", "Removes the members within a range of ranks", &[];
    Zremrangebyscore "zremrangebyscore" 4, W, K1, RW|DEL, SortedSet, "1.2.0", Structure(SortedSet), "key min max", "Removes the members within a range of scores", &[];
    Zrevrange "zrevrange" -4, R, K1, RO|ACC, SortedSet, "1.2.0", Structure(SortedSet), "key start stop [WITHSCORES]", "The members within a range of ranks, highest first", &[];
    Zrevrangebylex "zrevrangebylex" -4, R, K1, RO|ACC, SortedSet, "2.8.9", Structure(SortedSet), "key max min [LIMIT offset count]", "The members within a range of members, last first", &[];
    Zrevrangebyscore "zrevrangebyscore" -4, R, K1, RO|ACC, SortedSet, "2.2.0", Structure(SortedSet), "key max min [WITHSCORES] [LIMIT offset count]", "The members within a range of scores, highest first", &[];
    Zrevrank "zrevrank" -3, R|F, K1, RO|ACC, SortedSet, "2.0.0", Structure(SortedSet), "key member [WITHSCORE]", "The rank of a member, counted from the highest", &[];
    Zscan "zscan" -3, R, K1, RO|ACC, SortedSet, "2.8.0", Structure(SortedSet), "key cursor [MATCH pattern] [COUNT count]", "Walks over the members in steps", &[];
    Zscore "zscore" 3, R|F, K1, RO|ACC, SortedSet, "1.2.0", Structure(SortedSet), "key member", "The score of a member", &[];
    Zunion "zunion" -3, R|MV, NO, RO|ACC, SortedSet, "6.2.0", Structure(SortedSet), "numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]", "Members that any sorted set has", &[];
    Zunionstore "zunionstore" -4, W|OOM|MV, K1, OW|UPD, SortedSet, "2.0.0", Structure(SortedSet), "destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX]", "Stores what ZUNION gives", &[];
    // geo
    Geoadd "geoadd" -5, W|OOM, K1, RW|UPD, Geo, "3.2.0", Structure(SortedSet), "key [NX|XX] [CH] longitude latitude member [longitude latitude member ...]", "Adds members at places, or moves them", &[];
    Geodist "geodist" -4, R, K1, RO|ACC, Geo, "3.2.0", Structure(SortedSet), "key member1 member2 [M|KM|FT|MI]", "How far two members are apart", &[];
    Geohash "geohash" -2, R, K1, RO|ACC, Geo, "3.2.0", Structure(SortedSet), "key [member [member ...]]", "The public geohashes of members", &[];
    Geopos "geopos" -2, R, K1, RO|ACC, Geo, "3.2.0", Structure(SortedSet), "key [member [member ...]]", "Longitude and latitude of members", &[];
    Georadius "georadius" -6, W|OOM|MV|ISO, K1, RO|ACC, Geo, "3.2.0", Structure(SortedSet), "key longitude latitude radius (M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC|DESC] [STORE destination|STOREDIST destination]", "Members around a place; may store them", &[];
    GeoradiusRo "georadius_ro" -6, R, K1, RO|ACC, Geo, "3.2.10", Structure(SortedSet), "key longitude latitude radius (M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC|DESC]", "Members around a place", &[];
    Georadiusbymember "georadiusbymember" -5, W|OOM|MV|ISO, K1, RO|ACC, Geo, "3.2.0", Structure(SortedSet), "key member radius (M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC|DESC] [STORE destination|STOREDIST destination]", "Members around another; may store them", &[];
    GeoradiusbymemberRo "georadiusbymember_ro" -5, R, K1, RO|ACC, Geo, "3.2.10", Structure(SortedSet), "key member radius (M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC|DESC]", "Members around another", &[];
    Geosearch "geosearch" -7, R, K1, RO|ACC, Geo, "6.2.0", Structure(SortedSet), "key (FROMMEMBER member|FROMLONLAT longitude latitude) (BYRADIUS radius (M|KM|FT|MI)|BYBOX width height (M|KM|FT|MI)) [ASC|DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]", "Members within a circle or a box", &[];
    Geosearchstore "geosearchstore" -8, W|OOM|ISO, Keys::of(1, 2, 1), OW|UPD, Geo, "6.2.0", Structure(SortedSet), "destination source (FROMMEMBER member|FROMLONLAT longitude latitude) (BYRADIUS radius (M|KM|FT|MI)|BYBOX width height (M|KM|FT|MI)) [ASC|DESC] [COUNT count [ANY]] [STOREDIST]", "Stores what GEOSEARCH gives", &[];
    // hyperloglog
    Pfadd "pfadd" -2, W|OOM|F, K1, RW|INS, Hyperloglog, "2.8.9", Modify, "key [element [element ...]]", "Adds elements to a HyperLogLog", &[];
    Pfcount "pfcount" -2, R, KS, RW|ACC, Hyperloglog, "2.8.9", Modify, "key [key ...]", "About how many elements HyperLogLogs saw", &[];
    Pfmerge "pfmerge" -2, W|OOM|ISO, KS, RW|ACC|INS, Hyperloglog, "2.8.9", Store, "destkey [sourcekey [sourcekey ...]]", "Stores several HyperLogLogs as one", &[];
    // stream
    Xack "xack" -4, W|F, K1, RW|UPD, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xadd "xadd" -5, W|OOM|F, K1, RW|UPD, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xautoclaim "xautoclaim" -6, W|F, K1, RW|DEL, Stream, "6.2.0", Absent("streams are not served"), "", "", &[];
    Xclaim "xclaim" -6, W|F, K1, RW|UPD, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xdel "xdel" -3, W|F, K1, RW|DEL, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xgroup "xgroup" -2, 0, NO, 0, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xinfo "xinfo" -2, 0, NO, 0, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xlen "xlen" 2, R|F, K1, RO, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xpending "xpending" -3, R, K1, RO|ACC, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xrange "xrange" -4, R, K1, RO|ACC, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xread "xread" -4, R|BLK|MV, NO, RO|ACC, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xreadgroup "xreadgroup" -7, W|BLK|MV, NO, RO|ACC, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xrevrange "xrevrange" -4, R, K1, RO|ACC, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xsetid "xsetid" -3, W|OOM|F, K1, RW|UPD, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
    Xtrim "xtrim" -4, W, K1, RW|DEL, Stream, "5.0.0", Absent("streams are not served"), "", "", &[];
}
