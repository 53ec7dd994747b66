//! `crucible-host plugin check FILE`: holds a plugin to the contract.
//!
//! ```text
//!  parent: reads the file's record  ->  one child for each claim, one by one
//!  child:  loads the plugin, checks the claim, exits 0, or 1 with the reason
//! ```
//! What must always be true: the parent runs no code of the plugin, so a plugin
//! that crashes or hangs costs its claim and no more; a claim counts as held
//! only when its child said so. Called by `plugin_commands`.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crucible_plugin_api::metadata::Kind;
use crucible_plugin_testkit::contract::PARTS;
use crucible_plugin_testkit::robust::ROBUST_PARTS;
use crucible_plugin_testkit::{Contract, Robustness};
use serde_json::json;

use crate::RunError;
use crate::cli::CheckArgs;
use crate::config::Settings;
use crate::config::describe::own_settings;
use crate::instances;
use crate::loader::{Loader, elf, judge};

/// Memory that a store is given when nothing else is said, bytes.
const HEAP_BYTES: u64 = 64 << 20;
/// Lines of a failed claim's reason that are shown.
const REASON_LINES_MAX: usize = 12;
/// Bytes kept of what a child says.
const SAID_BYTES_MAX: u64 = 256 * 1024;
/// How often a child is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The program cannot start itself.
    #[error("cannot start a child process for the check: {0}")]
    Child(std::io::Error),
    /// A sample cannot be read.
    #[error("cannot read the sample {}: {source}", path.display())]
    Sample {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// `--claim` names none.
    #[error("there is no claim {number}; this plugin has {claims}")]
    NoSuchClaim {
        /// As written.
        number: usize,
        /// How many there are.
        claims: usize,
    },
}

/// How a claim did.
enum Outcome {
    Held,
    Failed(String),
    Died(String),
    Hung,
}

/// Checks a plugin; exit code 0 when every claim holds, 1 when one does not.
///
/// # Errors
/// When the plugin is not found, not fit to load, or no child can be started.
pub fn run(args: &CheckArgs, settings: &Settings) -> Result<u8, RunError> {
    let mut loader = Loader::new(&settings.plugins);
    if let Some(claim) = args.claim {
        return child(&mut loader, args, claim);
    }
    let path = loader.find(&args.plugin)?;
    let record = elf::read(&path)?;
    judge(&path, &record, settings.plugins.allow_abort)?;
    let kind = record.metadata.kind;
    let names = claims(kind);
    if !args.json {
        let m = &record.metadata;
        println!("checking {} {} ({kind}): {} claims", m.name, m.version, names.len());
    }
    let mut rows = Vec::new();
    let mut broken = 0;
    for (number, name) in names.iter().enumerate() {
        let start = Instant::now();
        let outcome = one(args, &path, number)?;
        let seconds = start.elapsed().as_secs_f64();
        let (word, reason) = match outcome {
            Outcome::Held => ("holds", String::new()),
            Outcome::Failed(reason) => ("BROKEN", reason),
            Outcome::Died(how) => ("DIED", how),
            Outcome::Hung => ("HUNG", format!("no end after {} s", args.timeout)),
        };
        broken += usize::from(word != "holds");
        if args.json {
            rows.push(json!({"claim": name, "result": word.to_lowercase(),
                "seconds": seconds, "reason": reason}));
            continue;
        }
        println!("  {word:<7} {seconds:>6.1} s  {name}");
        for line in reason.lines().take(REASON_LINES_MAX) {
            println!("            {line}");
        }
    }
    if args.json {
        let all = json!({"plugin": record.metadata.name, "kind": kind.to_string(),
            "claims": rows, "broken": broken});
        println!("{all:#}");
    } else {
        println!("{} of {} claims hold", names.len() - broken, names.len());
    }
    Ok(u8::from(broken > 0))
}

/// What a plugin of this kind must live up to.
fn claims(kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::Backend => PARTS.iter().map(|part| part.name).collect(),
        Kind::Protocol => ROBUST_PARTS.iter().map(|part| part.name).collect(),
    }
}

/// Checks one claim in a child process.
fn one(args: &CheckArgs, path: &Path, number: usize) -> Result<Outcome, CheckError> {
    let program = std::env::current_exe().map_err(CheckError::Child)?;
    let mut command = Command::new(program);
    command.args(["plugin", "check", "--claim"]).arg(number.to_string()).arg(path);
    if let Some(text) = &args.settings {
        command.arg("--settings").arg(text);
    }
    for sample in &args.samples {
        command.arg("--sample").arg(sample);
    }
    if args.evicts {
        command.arg("--evicts");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(CheckError::Child)?;
    // Read beside, so that a talkative child does not wait for us.
    let said = child.stderr.take().map(|pipe| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut pipe = pipe.take(SAID_BYTES_MAX);
            let _partial = pipe.read_to_end(&mut said);
            let _rest = std::io::copy(&mut pipe.into_inner(), &mut std::io::sink());
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(CheckError::Child)? {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().map_err(CheckError::Child)?;
            child.wait().map_err(CheckError::Child)?;
            break None;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let said = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
    Ok(match status {
        None => Outcome::Hung,
        Some(status) if status.success() => Outcome::Held,
        Some(status) => match (status.code(), status.signal()) {
            (Some(1 | 2), _) => Outcome::Failed(said),
            (Some(code), _) => Outcome::Died(format!("the process ended with code {code}\n{said}")),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                Outcome::Died(format!("the process ended with signal {signal}\n{said}"))
            }
        },
    })
}

/// In the child: checks the claim with this number.
fn child(loader: &mut Loader, args: &CheckArgs, number: usize) -> Result<u8, RunError> {
    let loaded = loader.load(&args.plugin)?;
    let kind = loaded.metadata.kind;
    let claims = claims(kind).len();
    if number >= claims {
        return Err(CheckError::NoSuchClaim { number, claims }.into());
    }
    let settings = args.settings.clone().unwrap_or_else(|| {
        let own = own_settings(&instances::schema(&loaded));
        match own.iter().any(|setting| setting.name == "heap_size") {
            true => json!({"heap_size": HEAP_BYTES}).to_string(),
            false => "{}".to_owned(),
        }
    });
    let mut samples = Vec::new();
    for path in &args.samples {
        let read = std::fs::read(path);
        samples.push(read.map_err(|source| CheckError::Sample { path: path.clone(), source })?);
    }
    // What a broken claim says is the reason, not a bug of this program.
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        eprintln!("{}", text.unwrap_or("it panicked"));
    }));
    let held = std::panic::catch_unwind(|| match kind {
        Kind::Backend => {
            let contract = Contract::of_root(loaded.root, &settings);
            let contract = if args.evicts { contract.evicts() } else { contract };
            PARTS[number].check(&contract);
        }
        Kind::Protocol => {
            let suite = Robustness::of_root(loaded.root, &settings);
            let suite = samples.iter().fold(suite, Robustness::sample);
            ROBUST_PARTS[number].check(&suite);
        }
    });
    Ok(u8::from(held.is_err()))
}
