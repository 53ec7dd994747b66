//! `cargo xtask smoketest`: every backend × policy × protocol of the release build, served, prefilled,
//! driven with every value verified, checked for errors and hit ratio, and drained.
//! What there is, is asked of the host: a new backend or policy is tested without a word here.
//! Called by people and by CI.

use crate::process::{self, Guard, must};
use crate::{Failure, paths, run, sys};
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the generator calls each protocol, and the plugin that serves it.
const PROTOCOLS: [(&str, &str); 8] = [
    ("resp", "resp"),
    ("resp3", "resp"),
    ("memcache", "memcache"),
    ("memcache-meta", "memcache"),
    ("memcache-binary", "memcache"),
    ("momento", "momento"),
    ("momento-grpc", "momento"),
    ("ping", "ping"),
];
/// Keys of each run: all of them fit the store's memory many times over.
const KEYS: u32 = 2_000;
/// Least share of found keys. All fit, but a store that writes a log drops some when overwritten values
/// have filled it, and a random policy drops them blindly.
const HIT_RATIO_MIN: f64 = 0.80;
/// What every store is given.
const HEAP_SIZE: &str = "256MiB";
/// A host that is not there by then is stuck, however crowded the machine is.
const START_LIMIT: Duration = Duration::from_secs(30);
/// One run of the generator: a second of load, and its waits.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Draining idle connections takes no time; this is for a crowded machine.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What `smoketest` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Test what is built already.
    #[arg(long)]
    no_build: bool,
    /// Only backends and policies whose `backend/policy` contains one of these (comma-separated).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A tenth of a second each: the first policy of each backend with every protocol, the others with one.
    #[arg(long)]
    short: bool,
}

/// How much of the whole is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Half a second of everything.
    Full,
    /// See [`Args::short`].
    Short,
}

impl Form {
    fn duration(self) -> &'static str {
        match self {
            Form::Full => "500ms",
            Form::Short => "100ms",
        }
    }

    /// Whether the `number`th policy of a backend is served through this protocol.
    fn has(self, number: usize, protocol: &str) -> bool {
        self == Form::Full || number == 0 || protocol == PROTOCOLS[0].0
    }
}

/// Builds, and tests each store in turn.
pub(crate) fn smoketest(args: &Args) -> Result<(), Failure> {
    if !args.no_build {
        run::build_release()?;
    }
    sys::raise_open_files();
    let form = if args.short { Form::Short } else { Form::Full };
    let (stores, runs) = stores(form, &args.only)?;
    println!("{stores} stores, {runs} runs: every value verified, every host drained");
    Ok(())
}

/// The short form, for the suite: how many runs were made.
pub(crate) fn short() -> Result<usize, Failure> {
    sys::raise_open_files();
    stores(Form::Short, &[]).map(|(_, runs)| runs)
}

/// Tests every store whose name contains one of `only`; how many they were, and their runs.
fn stores(form: Form, only: &[String]) -> Result<(usize, usize), Failure> {
    let protocols = plugins("protocol")?;
    let (mut stores, mut runs) = (0, 0);
    for backend in plugins("backend")? {
        for (number, policy) in policies(&backend)?.into_iter().enumerate() {
            let store = format!("{backend}/{}", policy.as_deref().unwrap_or("-"));
            if !only.is_empty() && !only.iter().any(|part| store.contains(part)) {
                continue;
            }
            let fail = |sentence| format!("{store}: {sentence}");
            let place =
                Place { backend: &backend, policy: policy.as_deref(), number, name: &store };
            runs += test(&place, form, &protocols).map_err(fail)?;
            stores += 1;
        }
    }
    if stores == 0 {
        Err("no backend and policy is named so".to_owned())
    } else {
        Ok((stores, runs))
    }
}

/// What is served.
struct Place<'a> {
    backend: &'a str,
    policy: Option<&'a str>,
    /// The policy's place among those of its backend.
    number: usize,
    name: &'a str,
}

fn program(name: &str) -> PathBuf {
    paths::release_dir().join(name)
}

/// Names of the built plugins of this kind; the host looks for them beside itself.
fn plugins(kind: &str) -> Result<Vec<String>, Failure> {
    let mut command = Command::new(program("crucible-host"));
    command.args(["plugin", "list"]);
    let ended = must("crucible-host plugin list", &mut command, START_LIMIT)?;
    let names: Vec<String> = ended.lines.iter().filter_map(|line| name_of(line, kind)).collect();
    if names.is_empty() { Err(format!("the host finds no {kind}")) } else { Ok(names) }
}

/// The plugin's name in a line of the list, when it is of this kind.
fn name_of(line: &str, kind: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    (words.next() == Some(kind)).then(|| name.to_owned())
}

/// The policies of a backend; one nameless where there is no choice.
fn policies(backend: &str) -> Result<Vec<Option<String>>, Failure> {
    let mut command = Command::new(program("crucible-host"));
    command.args(["plugin", "inspect", backend]);
    let ended =
        must(&format!("crucible-host plugin inspect {backend}"), &mut command, START_LIMIT)?;
    let words = ended.lines.iter().find_map(|line| choices(line, "policy"));
    Ok(words.map_or_else(|| vec![None], |words| words.into_iter().map(Some).collect()))
}

/// The words that a setting may have, from its line: `name  default  Sentence: one, two, three.`
fn choices(line: &str, setting: &str) -> Option<Vec<String>> {
    let rest = line.trim_start().strip_prefix(setting)?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let (_, list) = rest.rsplit_once(": ")?;
    let list = list.split_once('.').map_or(list, |(list, _)| list);
    Some(list.split(',').map(|word| word.trim().to_owned()).collect())
}

/// Serves one store through every protocol; how many runs were made.
fn test(place: &Place<'_>, form: Form, protocols: &[String]) -> Result<usize, Failure> {
    let store = place.name;
    let ports = protocols.iter().map(|_| free_port()).collect::<Result<Vec<_>, _>>()?;
    let mut command = Command::new(program("crucible-host"));
    command.args(["--backend", place.backend, "--threads", "1", "--heap-size", HEAP_SIZE]);
    for (protocol, port) in protocols.iter().zip(&ports) {
        command.args(["--plugin", &format!("{protocol}@127.0.0.1:{port}")]);
    }
    if let Some(policy) = place.policy {
        command.args(["--set", &format!("cache.policy={policy}")]);
    }
    let log = paths::tools_dir().join("smoketest.log");
    let file = std::fs::create_dir_all(paths::tools_dir())
        .and_then(|()| std::fs::File::create(&log))
        .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let errors = file.try_clone().map_err(|error| format!("log file: {error}"))?;
    command.stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    let mut host = Guard::start("crucible-host", &mut command, None)?;
    for port in &ports {
        wait_until_it_accepts(&mut host, *port).map_err(|sentence| {
            format!("{sentence}\n{}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
    }
    let mut runs = 0;
    for (protocol, plugin) in PROTOCOLS {
        if !form.has(place.number, protocol) {
            continue;
        }
        let Some(at) = protocols.iter().position(|name| name == plugin) else { continue };
        let said = drive(protocol, form, ports[at], host.pid())
            .map_err(|sentence| format!("{protocol}: {sentence}"))?;
        println!("{store:<20} {protocol:<16} {said}");
        runs += 1;
    }
    let status = host.stop(STOP_LIMIT)?;
    if !status.success() {
        return Err(format!("the host did not drain cleanly: {status}"));
    }
    Ok(runs)
}

fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

fn wait_until_it_accepts(host: &mut Guard, port: u16) -> Result<(), Failure> {
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = host.ended() {
            return Err(format!("the host ended at start ({status})"));
        }
        if start.elapsed() > START_LIMIT {
            return Err(format!("nothing accepts on {port} after {START_LIMIT:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One run of the generator; what it saw, in a few words.
fn drive(protocol: &str, form: Form, port: u16, pid: u32) -> Result<String, Failure> {
    let lines = paths::tools_dir().join("smoketest.json");
    let mut command = Command::new(program("crucible-benchmark"));
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--protocol", protocol])
        .args(["--duration", form.duration(), "--warmup", "100ms", "--request-timeout", "10s"])
        .args(["-c", "8", "--table", "none", "--server-pid", &pid.to_string(), "--json"])
        .arg(&lines)
        // On a crowded machine a run may be void, and still every answer must be right.
        .args(["--slip-limit", "60s"]);
    if protocol != "ping" {
        command.args(["--keys", &KEYS.to_string(), "--commands", "get=8,set=2", "--ttl", "1h"]);
        command.args(["--value-length", "weighted:64=17,1000=2,20000=1"]);
    }
    if !matches!(protocol, "momento" | "momento-grpc" | "ping") {
        command.args(["-P", "4"]);
    }
    must("crucible-benchmark", &mut command, RUN_LIMIT)?;
    let result = process::result_of(&lines)?;
    judge(protocol, &result)
}

/// What must hold of a result.
fn judge(protocol: &str, result: &Value) -> Result<String, Failure> {
    let count = |name: &str| result["counts"][name].as_u64().unwrap_or(0);
    let responses = count("responses");
    if responses == 0 {
        return Err("nothing was answered".to_owned());
    }
    for name in ["errors", "timeouts", "lost", "not_stored", "garbage", "disconnects"] {
        if count(name) > 0 {
            return Err(format!("{} {name}: {}", count(name), result["error_words"]));
        }
    }
    if protocol == "ping" {
        return Ok(format!("{responses:>7} answers"));
    }
    let ratio = result["hit_ratio"].as_f64().unwrap_or(0.0);
    if ratio < HIT_RATIO_MIN {
        return Err(format!("hit ratio {ratio:.4}, below {HIT_RATIO_MIN}"));
    }
    if count("verified") == 0 {
        return Err("no value was verified".to_owned());
    }
    Ok(format!("{responses:>7} answers, {:>7} values verified, hits {ratio:.4}", count("verified")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_and_choices_are_read_as_the_host_prints_them() {
        let line = "segcache     backend   0.1.0    /somewhere/libsegcache.so";
        assert_eq!(name_of(line, "backend"), Some("segcache".into()));
        assert_eq!(name_of(line, "protocol"), None);
        let line =
            "    policy     \"s3fifo\"  Which items go when room is needed: s3fifo, fifo, cte.";
        assert_eq!(choices(line, "policy").unwrap(), ["s3fifo", "fifo", "cte"]);
        assert_eq!(choices("    policy_x   1  A: b, c.", "policy"), None);
        assert_eq!(choices("    ghost_ratio  1.0  Evicted keys.", "policy"), None);
    }

    #[test]
    fn the_short_form_meets_every_policy_once_and_the_first_with_every_protocol() {
        let runs = |form: Form, number| {
            PROTOCOLS.iter().filter(|(protocol, _)| form.has(number, protocol)).count()
        };
        assert_eq!((runs(Form::Short, 0), runs(Form::Short, 1)), (PROTOCOLS.len(), 1));
        assert_eq!((runs(Form::Full, 0), runs(Form::Full, 1)), (PROTOCOLS.len(), PROTOCOLS.len()));
    }

    #[test]
    fn a_result_with_errors_misses_or_nothing_verified_fails() {
        let result = |responses: u64, errors: u64, verified: u64, ratio: f64| {
            let counts = json!({ "responses": responses, "errors": errors, "verified": verified });
            json!({ "counts": counts, "hit_ratio": ratio, "error_words": { "OOM": errors } })
        };
        assert!(judge("resp", &result(9, 0, 9, 1.0)).is_ok());
        assert!(judge("resp", &result(0, 0, 9, 1.0)).is_err());
        assert!(judge("resp", &result(9, 1, 9, 1.0)).unwrap_err().contains("OOM"));
        assert!(judge("resp", &result(9, 0, 0, 1.0)).is_err());
        assert!(judge("resp", &result(9, 0, 9, 0.5)).is_err());
        assert!(judge("ping", &result(9, 0, 0, 0.0)).is_ok());
    }
}
