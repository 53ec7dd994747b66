//! What is refused, in which sentence, and what nothing written means. Called by `cargo test`.

use super::threads::cpu_list;
use super::*;

fn plan(toml: &str) -> Result<Plan, String> {
    let written: Written = toml::from_str(toml).map_err(|e| e.to_string())?;
    Plan::new(written).map_err(|e| e.to_string())
}

#[test]
fn nothing_written_is_a_plan_for_a_quick_look() {
    let plan = plan("").unwrap();
    assert_eq!(plan.endpoints[0].address.port(), 6379);
    assert!(plan.prefill && plan.rate.is_none() && plan.verify == Verify::Full);
    assert!(plan.loop_words().contains("closed loop"));
}

#[test]
fn toml_numbers_tables_and_lists_read_as_their_texts_do() {
    let plan = plan(
        "[general]\nduration = 2\ncpu_list = 0\n[target]\nendpoints = ['127.0.0.1:1', '127.0.0.1:2']\nprotocol = 'memcache'\n\
         [workload]\ncommands = { get = 3, set = 1 }\nrate_limit = '10k'\n[values]\nlength = 100",
    )
    .unwrap();
    assert_eq!((plan.duration.as_secs(), plan.rate, plan.endpoints.len()), (2, Some(10_000), 2));
    assert_eq!((plan.threads, &plan.cpus[..]), (1, &[0][..]));
    assert_eq!(plan.value_length, Spread::Fixed(100));
}

#[test]
fn unknown_keys_and_sections_are_refused_by_name() {
    for (text, name) in
        [("[general]\ndurration = 1", "durration"), ("[genral]\nduration = 1", "genral")]
    {
        let error = plan(text).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn impossible_plans_are_refused_in_a_sentence_that_names_the_key() {
    for (text, name) in [
        ("[general]\nduration = 0", "general.duration"),
        ("[general]\nthreads = 0", "general.threads"),
        ("[general]\nthreads = 2\ncpu_list = 0", "general.cpu_list"),
        ("[general]\ncpu_list = 4000", "processor 4000"),
        ("[target]\nendpoints = 'localhost'", "localhost"),
        ("[target]\nendpoints = '127.0.0.1:1,127.0.0.1:2'", "target.endpoints"),
        ("[target]\nprotocol = 'momento'\n[workload]\ncommands = 'incr=1'", "protosocket"),
        ("[target]\ncache = 'x'", "target.cache"),
        (
            "[target]\nprotocol = 'momento-grpc'\n[connection]\npipeline_depth = 101",
            "pipeline_depth",
        ),
        ("[target]\nprotocol = 'http'", "momento"),
        ("[target]\nprotocol = 'memcache'\ncluster = true", "target.cluster"),
        ("[target]\nserver_pid = 999999999", "target.server_pid"),
        ("[target]\nusername = 'me'", "target.password"),
        ("[target]\nprotocol = 'memcache'\npassword = 'x'", "target.username"),
        ("[target]\nprotocol = 'ping'\npassword = 'x'", "no login"),
        ("[target]\ntls_insecure = true", "target.tls"),
        ("[target]\ntls = true\ntls_key = 'k.pem'", "target.tls_certificate"),
        ("[target]\ntls = true\ntls_insecure = true\ntls_ca = 'k.pem'", "exclude each other"),
        ("[connection]\nconnections = 0", "connection.connections"),
        ("[connection]\ntimestamps = 'kernel'\n[target]\ntls = true", "target.tls"),
        ("[connection]\nrequest_timeout = '0s'", "connection.request_timeout"),
        ("[workload]\ncommands = 'cas=1'", "cas"),
        ("[workload]\ncommands = 'touch=1'", "workload.ttl"),
        ("[workload]\nttl = '0s'", "workload.ttl"),
        ("[workload]\narrival = 'poisson'", "workload.arrival"),
        ("[workload]\nmget_keys = 3", "workload.mget_keys"),
        ("[workload]\ncommands = 'set=1'\nbackfill_on_miss = true", "backfill_on_miss"),
        ("[workload]\nrate_limit = 5\n[search]\np99 = '1ms'", "workload.rate_limit"),
        ("[search]\nstart = 5", "search.start"),
        ("[search]\np99='1ms'\nstart = 50\nmax = 5", "search.max"),
        ("[keyspace]\ncount = '10G'", "workload.verify"),
        ("[keyspace]\nlength = 3", "keyspace.length"),
        ("[target]\nprotocol = 'memcache'\n[keyspace]\nlength = 251", "keyspace.length"),
        ("[values]\nlength = 'trace'", "values.length"),
        ("[values]\nlength = '1GiB'", "values.length"),
        ("[values]\nlength = '100MiB'\n[connection]\nconnections = 1000", "lower one of them"),
        ("[trace]\nspeed = 'timed'", "trace.speed"),
        ("[trace]\npath = '/nonexistent.csv'", "trace.path"),
        ("[output]\nprometheus = 'here'", "output.prometheus"),
        ("[target]\nprotocol = 'ping'\n[workload]\ncommands = 'get=1'", "ping"),
    ] {
        let error = plan(text).unwrap_err();
        assert!(error.contains(name), "{text}: {error}");
    }
}

#[test]
fn a_trace_excludes_what_it_decides_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "0,a,1\n").unwrap();
    let with = |more: &str| plan(&format!("{more}\n[trace]\npath = '{}'", path.display()));
    assert!(with("").is_ok());
    for more in
        ["[workload]\ncommands = 'get=1'", "[keyspace]\ncount = 5", "[workload]\nprefill = true"]
    {
        assert!(with(more).unwrap_err().contains("trace.path"), "{more}");
    }
}

#[test]
fn listed_processors_are_taken_as_listed() {
    assert_eq!(cpu_list("1,0").unwrap(), [1, 0]);
    assert_eq!(cpu_list("0-1").unwrap(), [0, 1]);
    assert!(cpu_list("1-0").is_err());
}

#[test]
fn the_shortest_key_holds_its_number() {
    for (count, len) in [(1, 2), (10, 2), (11, 3), (100_000, 6), (100_001, 7)] {
        assert_eq!(key_len_bytes_min(count), len, "{count}");
    }
}
