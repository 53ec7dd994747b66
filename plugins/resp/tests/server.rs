//! INFO, CONFIG, COMMAND and the cluster map, under the names that tools read.

mod common;
use common::{command, expect, host, script, script_with};

#[test]
fn info_has_the_sections_and_fields_that_exporters_read() {
    let (host, resp) = host("{}", "{}");
    host.set_host_stat("uptime_s", "90000");
    host.set_host_stat("tcp_port", "6379");
    host.set_host_stat("memory_rss_bytes", "1048576");
    let conn = host.connect(resp);
    expect(&conn, "SET k v", "+OK");
    expect(&conn, "GET k", "$1 v");
    expect(&conn, "GET none", "$-1");
    expect(&conn, "INCR k", "-ERR value is not an integer or out of range");
    let info = String::from_utf8(conn.ask(&command("INFO"))).unwrap();
    for line in [
        "# Server",
        "redis_version:7.4.0",
        "redis_mode:standalone",
        "tcp_port:4000",
        "uptime_in_seconds:90000",
        "uptime_in_days:1",
        "# Clients",
        "connected_clients:1",
        "# Memory",
        "used_memory_rss:1048576",
        "used_memory_rss_human:1.00M",
        "# Stats",
        "keyspace_hits:1",
        "keyspace_misses:1",
        "total_error_replies:1",
        "# Replication",
        "role:master",
        "# CPU",
        "# Errorstats",
        "errorstat_ERR:count=1",
        "# Cluster",
        "cluster_enabled:0",
        "# Keyspace",
        "db0:keys=1,expires=0,avg_ttl=0",
    ] {
        assert!(info.contains(&format!("{line}\r\n")), "{line} is missing in {info}");
    }
    let stats = String::from_utf8(conn.ask(&command("INFO commandstats"))).unwrap();
    assert!(stats.contains("cmdstat_get:calls=2,"), "{stats}");
    assert!(!stats.contains("# Server"), "{stats}");
    expect(&conn, "CONFIG RESETSTAT", "+OK");
    let stats = String::from_utf8(conn.ask(&command("INFO stats"))).unwrap();
    assert!(stats.contains("keyspace_hits:0\r\n"), "{stats}");
}

#[test]
fn config_knows_its_keys_and_refuses_the_rest() {
    script(&[
        ("CONFIG GET appendonly save", "*4 $10 appendonly $2 no $4 save $0 "),
        ("CONFIG GET proto-max-bulk-len", "*2 $18 proto-max-bulk-len $9 536870912"),
        ("CONFIG GET nosuch", "*0"),
        ("CONFIG SET databases 1", "+OK"),
        (
            "CONFIG SET databases 2",
            "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        ("CONFIG SET nosuch 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
        ("CONFIG REWRITE", "-ERR The server is running without a config file"),
        ("CONFIG NOPE", "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP."),
    ])
    .run();
}

#[test]
fn config_set_changes_what_can_change_all_or_nothing() {
    let failed = |name: &str, why: &str| {
        format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    let (slow, bulk) = ("slowlog-log-slower-than", "proto-max-bulk-len");
    let parts = "latency-tracking-info-percentiles";
    let limit = "client-output-buffer-limit";
    let memory = "argument must be between 1048576 and 4294967295 inclusive";
    let whole = "argument couldn't be parsed into an integer";
    let table = [
        (format!("CONFIG SET {slow} 20000 slowlog-max-len 7"), "+OK".to_owned()),
        ("CONFIG GET slowlog-max-len".into(), "*2 $15 slowlog-max-len $1 7".into()),
        (
            format!("CONFIG SET {slow} 5 nosuch 1"),
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'".into(),
        ),
        (format!("CONFIG SET slowlog-max-len 9 {bulk} 10"), failed(bulk, memory)),
        ("CONFIG GET slowlog-max-len".into(), "*2 $15 slowlog-max-len $1 7".into()),
        (format!("CONFIG GET {slow}"), format!("*2 $23 {slow} $5 20000")),
        (format!("CONFIG SET {slow} abc"), failed(slow, whole)),
        (
            format!("CONFIG SET {slow} -2"),
            failed(slow, "argument must be between -1 and 9223372036854775807 inclusive"),
        ),
        (format!("CONFIG SET {bulk} x"), failed(bulk, "argument must be a memory value")),
        (format!("CONFIG SET {bulk} 2mb"), "+OK".into()),
        (format!("CONFIG GET {bulk}"), format!("*2 $18 {bulk} $7 2097152")),
        ("CONFIG SET tracking-table-max-keys x".into(), failed("tracking-table-max-keys", whole)),
        ("CONFIG SET tracking-table-max-keys 5".into(), "+OK".into()),
        (
            "CONFIG SET latency-tracking maybe".into(),
            failed("latency-tracking", "argument must be 'yes' or 'no'"),
        ),
        (
            format!("CONFIG SET {parts} 50~101"),
            failed(parts, &format!("{parts} parameters should sit between [0.0,100.0]")),
        ),
        (format!("CONFIG SET {parts} a"), failed(parts, &format!("Invalid {parts} parameters"))),
        (format!("CONFIG SET {parts} 50~99.95~100"), "+OK".into()),
        (
            format!("CONFIG SET {limit} pubsub~1"),
            failed(limit, "Wrong number of arguments in buffer limit configuration."),
        ),
        (
            format!("CONFIG SET {limit} foo~1~2~3"),
            failed(limit, "Invalid client class specified in buffer limit configuration."),
        ),
        (
            format!("CONFIG SET {limit} pubsub~x~2~3"),
            failed(
                limit,
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
        ),
        (
            format!("CONFIG SET {limit} normal~1~0~0"),
            failed(limit, "only the hard limit of the class pubsub can be changed here"),
        ),
        (format!("CONFIG SET {limit} pubsub~1mb~0~0"), "+OK".into()),
        ("CONFIG SET save x".into(), failed("save", "can't set immutable config")),
        ("CONFIG SET save ''".into(), "+OK".into()),
        ("CONFIG SET save '' save ''".into(), failed("save", "duplicate parameter")),
        (
            "CONFIG SET maxmemory".into(),
            "-ERR wrong number of arguments for 'config|set' command".into(),
        ),
    ];
    let steps: Vec<(&str, &str)> = table.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    script(&steps).alone().run();
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    let get = |what: &str| String::from_utf8(conn.ask(&command(what))).unwrap();
    assert!(get("CONFIG GET slowlog-max-len").contains("128"));
    let parts = format!("CONFIG SET {parts} 50~99.95~100");
    expect(&conn, &parts, "+OK");
    expect(&conn, "KEYS *", "*0");
    let stats = get("INFO latencystats");
    assert!(stats.contains("latency_percentiles_usec_keys:p50=") && stats.contains(",p99.95="));
    expect(&conn, "CONFIG SET latency-tracking no", "+OK");
    expect(&conn, "LATENCY HISTOGRAM keys", "*0");
    assert!(!get("INFO latencystats").contains("keys"));
}

#[test]
fn commands_have_the_names_that_the_settings_give_them() {
    let settings = r#"{"disabled_commands": ["FLUSHALL", "Keys"],
        "renamed_commands": {"CONFIG": "Secret", "get": "fetch"}}"#;
    let unknown = |name: &str, args: &str| {
        format!("-ERR unknown command '{name}', with args beginning with: {args}")
    };
    let table = [
        ("SET k v", "+OK".to_owned()),
        ("GET k", unknown("GET", "'k' ")),
        ("fetch k", "$1 v".to_owned()),
        ("FETCH k", "$1 v".to_owned()),
        ("fetch", "-ERR wrong number of arguments for 'get' command".to_owned()),
        ("MULTI", "+OK".to_owned()),
        ("fetch k", "+QUEUED".to_owned()),
        ("EXEC", "*1 $1 v".to_owned()),
        ("flushall", unknown("flushall", "")),
        ("KEYS *", unknown("KEYS", "'*' ")),
        ("CONFIG GET save", unknown("CONFIG", "'GET' 'save' ")),
        ("SECRET GET save", "*2 $4 save $0 ".to_owned()),
        ("COMMAND INFO flushall keys get", "*3 $-1 $-1 $-1".to_owned()),
        ("COMMAND GETKEYS fetch k", "*1 $1 k".to_owned()),
        ("COMMAND GETKEYS get k", "-ERR Invalid command specified".to_owned()),
    ];
    let steps: Vec<(&str, &str)> = table.iter().map(|(a, b)| (*a, b.as_str())).collect();
    script_with(settings, &steps).run();
    let (host, resp) = host(settings, "{}");
    let conn = host.connect(resp);
    let list = String::from_utf8(conn.ask(&command("COMMAND LIST"))).unwrap();
    assert!(list.contains("\r\nget\r\n") && !list.contains("\r\nflushall\r\n"), "{list}");
    // A long value of a renamed SET still goes straight into the store, and only of that one.
    let (host, resp) = common::host(r#"{"renamed_commands": {"SET": "put"}}"#, "{}");
    let conn = host.connect(resp);
    let long = "v".repeat(100_000);
    let put = command(&format!("PUT k {long}"));
    conn.send(&put[..50_000]);
    conn.expect(&put[50_000..], b"+OK\r\n");
    expect(&conn, "STRLEN k", ":100000");
    let set = conn.ask(&command(&format!("SET k {long}")));
    assert!(set.starts_with(b"-ERR unknown command 'SET'"));
    expect(&conn, "STRLEN k", ":100000");
}

#[test]
fn command_tells_what_is_served_and_only_that() {
    let (host, resp) = host("{}", r#"{"structures":false}"#);
    let conn = host.connect(resp);
    let count = String::from_utf8(conn.ask(&command("COMMAND COUNT"))).unwrap();
    let count: usize = count.trim_start_matches(':').trim_end().parse().unwrap();
    let all = conn.ask(&command("COMMAND"));
    assert!(all.starts_with(format!("*{count}\r\n").as_bytes()));
    let list = String::from_utf8(conn.ask(&command("COMMAND LIST"))).unwrap();
    assert!(list.contains("\r\nget\r\n") && !list.contains("\r\nhset\r\n"));
    assert!(!list.contains("\r\ndebug\r\n"), "DEBUG is off");
    expect(&conn, "COMMAND INFO hset", "*1 $-1");
    expect(&conn, "COMMAND GETKEYS MSET a 1 b 2", "*2 $1 a $1 b");
    expect(&conn, "COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 5", "*2 $1 a $1 b");
    expect(&conn, "COMMAND GETKEYS PING x", "-ERR The command has no key arguments");
    assert!(
        conn.ask(&command("COMMAND DOCS")).starts_with(format!("*{}\r\n", count * 2).as_bytes())
    );
    assert!(conn.ask(&command("CLIENT HELP")).starts_with(b"*"));
}

const MAP: &str = r#"{"cluster": {"me": "a", "nodes": [
    {"name": "a", "host": "10.0.0.1", "port": 7000, "slots": ["0-8191"]},
    {"name": "b", "host": "10.0.0.2", "port": 7001, "slots": ["8192-16383"]}]}}"#;

#[test]
fn a_cluster_node_serves_its_slots_and_moves_clients_on() {
    // foo is in slot 12182, bar in 5061.
    script_with(
        MAP,
        &[
            ("SET bar 1", "+OK"),
            ("GET bar", "$1 1"),
            ("SET foo 1", "-MOVED 12182 10.0.0.2:7001"),
            ("MGET bar foo", "-CROSSSLOT Keys in request don't hash to the same slot"),
            ("MSET {bar}1 a {bar}2 b", "+OK"),
            ("ASKING", "+OK"),
            ("GET foo", "$-1"),
            ("GET foo", "-MOVED 12182 10.0.0.2:7001"),
            ("PING", "+PONG"),
            ("CLUSTER KEYSLOT foo", ":12182"),
            ("READONLY", "+OK"),
            ("READWRITE", "+OK"),
            ("CLUSTER KEYSLOT", "-ERR wrong number of arguments for 'cluster|keyslot' command"),
        ],
    )
    .run();
    let (host, resp) = host(MAP, "{}");
    let conn = host.connect(resp);
    let slots = String::from_utf8(conn.ask(&command("CLUSTER SLOTS"))).unwrap();
    assert!(
        slots.starts_with("*2\r\n*3\r\n:0\r\n:8191\r\n*4\r\n$8\r\n10.0.0.1\r\n:7000\r\n$40\r\n")
    );
    let nodes = String::from_utf8(conn.ask(&command("CLUSTER NODES"))).unwrap();
    assert!(
        nodes.contains("10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-8191\n"),
        "{nodes}"
    );
    let info = String::from_utf8(conn.ask(&command("CLUSTER INFO"))).unwrap();
    assert!(info.contains("cluster_state:ok") && info.contains("cluster_size:2"), "{info}");
    expect(&conn, "SET bar 1", "+OK");
    expect(&conn, "CLUSTER COUNTKEYSINSLOT 5061", ":1");
    expect(&conn, "CLUSTER GETKEYSINSLOT 5061 10", "*1 $3 bar");
    expect(&conn, "CLUSTER GETKEYSINSLOT 99999 10", "-ERR Invalid slot");
}

#[test]
fn a_server_outside_a_cluster_says_so() {
    let off = "-ERR This instance has cluster support disabled";
    script(&[("CLUSTER INFO", off), ("ASKING", off), ("READONLY", off)]).run();
}

#[test]
fn operators_switches_are_off_until_asked_for() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    assert!(conn.ask(&command("DEBUG SLEEP 0")).starts_with(b"-ERR DEBUG command not allowed."));
    expect(&conn, "SHUTDOWN", "-ERR SHUTDOWN is not allowed by the settings of this listener");
    assert!(!host.shutdown_asked());
    let (host, resp) = common::host(r#"{"shutdown_command": true}"#, "{}");
    let conn = host.connect(resp);
    expect(&conn, "SHUTDOWN NOSAVE", "");
    assert!(host.shutdown_asked() && conn.is_closed());
}

#[test]
fn disabled_and_renamed_commands_are_unknown_by_their_own_names() {
    let settings = r#"{"disabled_commands": ["flushall", "SET"], "renamed_commands": {"KEYS": "LIST-ALL", "SETEX": "PUT"}}"#;
    let (host, resp) = common::host(settings, "{}");
    let conn = host.connect(resp);
    let unknown = |conn: &crucible_plugin_testkit::Conn, line: &str| {
        let answer = String::from_utf8(conn.ask(&command(line))).unwrap();
        assert!(answer.starts_with("-ERR unknown command"), "{line}: {answer}");
    };
    for line in ["FLUSHALL", "flushall ASYNC", "SET k v", "KEYS *", "SETEX k 10 v"] {
        unknown(&conn, line);
    }
    expect(&conn, "put k 10 v", "+OK");
    expect(&conn, "List-All *", "*1 $1 k");
    expect(&conn, "GET k", "$1 v");
    expect(&conn, "MULTI", "+OK");
    unknown(&conn, "FLUSHALL");
    expect(&conn, "EXEC", "-EXECABORT Transaction discarded because of previous errors.");
    // A value that would stream is gathered, and refused whole.
    unknown(&conn, &format!("SETEX k 10 {}", "x".repeat(200_000)));
    unknown(&conn, &format!("SET k {}", "x".repeat(200_000)));
    expect(&conn, "GET k", "$1 v");
    let listed = String::from_utf8(conn.ask(&command("COMMAND LIST"))).unwrap();
    assert!(listed.contains("flushdb") && !listed.contains("flushall"), "{listed}");
}

#[test]
fn commands_that_run_alone_are_timed() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    expect(&conn, "LATENCY HISTOGRAM keys", "*0");
    expect(&conn, "KEYS *", "*0");
    let histogram = String::from_utf8(conn.ask(&command("LATENCY HISTOGRAM keys get"))).unwrap();
    assert!(
        histogram.starts_with(
            "*2\r\n$4\r\nkeys\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n"
        )
    );
    expect(&conn, "SLOWLOG LEN", ":0");
    expect(&conn, "SLOWLOG GET -1", "*0");
    expect(&conn, "SLOWLOG GET -2", "-ERR count should be greater than or equal to -1");
    expect(&conn, "SLOWLOG RESET", "+OK");
}

#[test]
fn the_slowlog_keeps_commands_of_batches_when_it_watches_closely() {
    let (host, resp) = host("{}", "{}");
    let (conn, other) = (host.connect(resp), host.connect(resp));
    expect(&conn, "CLIENT SETNAME me", "+OK");
    expect(&conn, "CONFIG SET slowlog-log-slower-than 0", "+OK");
    expect(&conn, "SLOWLOG RESET", "+OK");
    let pipeline = [command("SET k v"), command("GET k"), command("PING")].concat();
    conn.expect(&pipeline, b"+OK\r\n$1\r\nv\r\n+PONG\r\n");
    expect(&conn, "MULTI", "+OK");
    expect(&conn, "INCRBY n 5", "+QUEUED");
    expect(&conn, "EXEC", "*1 :5");
    expect(&conn, "CONFIG SET slowlog-log-slower-than 1000000", "+OK");
    expect(&other, "SLOWLOG LEN", ":6");
    let log = String::from_utf8(conn.ask(&command("SLOWLOG GET 100"))).unwrap();
    let at = |words: &str| {
        let lines: String = words.split(' ').map(|w| format!("${}\r\n{w}\r\n", w.len())).collect();
        log.find(&lines).unwrap_or_else(|| panic!("{words} is missing in {log}"))
    };
    // Newest first, each command once, with its arguments; what was only gathered is not.
    assert!(at("INCRBY n 5") < at("MULTI") && at("MULTI") < at("PING"));
    assert!(at("PING") < at("GET k") && at("GET k") < at("SET k v"));
    assert!(log.contains("$2\r\nme\r\n"), "the client's name: {log}");
    // Nothing is slower than the new threshold; a wide command is watched but quick.
    expect(&conn, "SLOWLOG RESET", "+OK");
    let keys = (0..100).map(|i| format!("k{i}")).collect::<Vec<_>>().join(" ");
    expect(&conn, &format!("EXISTS {keys}"), ":0");
    expect(&conn, "SLOWLOG LEN", ":0");
    expect(&conn, "CONFIG SET slowlog-log-slower-than -1", "+OK");
    expect(&conn, "DBSIZE", ":2");
    expect(&conn, "SLOWLOG LEN", ":0");
}

#[test]
fn commands_that_run_in_batches_have_a_part_of_their_batchs_time() {
    let (host, resp) = host("{}", "{}");
    let conn = host.connect(resp);
    for _ in 0..100 {
        let _answers = conn.ask(&[command("SET k v"), command("GET k").repeat(9)].concat());
    }
    let stats = String::from_utf8(conn.ask(&command("INFO all"))).unwrap();
    let line = |name: &str| stats.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    let number = |text: &str, name: &str| -> f64 {
        let (_, rest) = text.split_once(name).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let get = line("cmdstat_get:");
    assert_eq!(number(get, "calls="), 900.0, "{get}");
    assert!(number(get, "usec_per_call=") > 0.0, "{get}");
    let wanted = number(get, "usec_per_call=") * 900.0;
    assert!((number(get, "usec=") - wanted).abs() <= 900.0 * 0.005 + 1.0, "{get}");
    assert!(line("latency_percentiles_usec_get:").starts_with("p50="), "{stats}");
    let shown = String::from_utf8(conn.ask(&command("LATENCY HISTOGRAM get set"))).unwrap();
    // Of 100 batches of ten, some were timed whole.
    let calls: Vec<u64> = shown
        .split("calls\r\n:")
        .skip(1)
        .map(|rest| rest.split("\r\n").next().unwrap().parse().unwrap())
        .collect();
    let [get, set] = calls[..] else { panic!("{shown}") };
    assert!(set >= 1 && get == 9 * set, "{shown}");
}
