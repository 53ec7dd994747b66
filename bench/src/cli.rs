//! The command line: a run by default, `view` and `compare` for results.
//!
//! Always true: exit code 2 means the request was impossible and nothing was sent, 1 that a run failed or
//! its answers did, 0 neither. Called by the binary.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use crate::compare;
use crate::config::choices::Endpoints;
use crate::config::plan::Plan;
use crate::config::written::Written;
use crate::record::parquet::{ResultFileError, read};
use crate::record::recorder::{Files, Recorder};
use crate::record::summary;
use crate::run::conductor::{Conductor, RunError, roster};
use crate::run::search::search;
use crate::run::verdict::Step;
use crate::view;

/// A load generator for cache servers that tells the truth.
///
/// `crucible-benchmark -h 127.0.0.1 -p 6379` takes a quick look; `crucible-benchmark config.toml` carries
/// out a config, whose every key is also a flag below (the flag wins).
#[derive(Debug, Parser)]
#[command(
    name = "crucible-benchmark",
    version,
    disable_help_flag = true,
    args_override_self = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// A TOML config; see bench/config/example.toml
    config: Option<PathBuf>,
    /// Host of the only endpoint, as in redis-benchmark
    #[arg(short = 'h', long, conflicts_with = "endpoints")]
    host: Option<String>,
    /// Port of the only endpoint
    #[arg(short = 'p', long, conflicts_with = "endpoints")]
    port: Option<u16>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help, global = true)]
    help: Option<bool>,
    #[command(flatten)]
    written: Written,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show results in a local dashboard, or write it as one HTML file
    View {
        /// Result files (Parquet)
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// Write the dashboard to this file and end
        #[arg(long)]
        html: Option<PathBuf>,
        /// Address to serve the dashboard on
        #[arg(long, default_value = "127.0.0.1:7380")]
        listen: SocketAddr,
    },
    /// State the differences of two results, with confidence from repeated intervals
    Compare {
        /// The result to compare with
        before: PathBuf,
        /// The result to compare
        after: PathBuf,
    },
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Manual {
        /// Folder that gets `man1` and `completions`
        dir: PathBuf,
    },
}

const FAILED: u8 = 1;
const IMPOSSIBLE: u8 = 2;

/// Parses the arguments and does what they ask.
#[must_use]
pub fn main() -> ExitCode {
    // clap's own errors end the program with 2.
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::View { results, html, listen }) => show(&results, html, listen),
        Some(Command::Compare { before, after }) => differ(&before, &after),
        Some(Command::Manual { dir }) => {
            manual(&dir).map(|()| ExitCode::SUCCESS).map_err(impossible)
        }
        None => plan(cli).and_then(run),
    };
    match done {
        Ok(code) => code,
        Err((code, text)) => {
            eprintln!("crucible-benchmark: {text}");
            ExitCode::from(code)
        }
    }
}

type Done<T> = Result<T, (u8, String)>;

fn impossible(error: impl ToString) -> (u8, String) {
    (IMPOSSIBLE, error.to_string())
}

/// Man pages and completions of the command line as it is defined above.
fn manual(dir: &std::path::Path) -> std::io::Result<()> {
    use clap::CommandFactory;
    use clap_complete::Shell;

    let (pages, completions) = (dir.join("man1"), dir.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "crucible-benchmark", &completions)?;
    }
    Ok(())
}

fn plan(cli: Cli) -> Done<Plan> {
    let mut flags = cli.written;
    let file = cli.config.as_deref().map(Written::from_file).transpose().map_err(impossible)?;
    let file = file.unwrap_or_default();
    if cli.host.is_some() || cli.port.is_some() {
        let protocol = flags.target.protocol.or(file.target.protocol);
        let memcache = protocol.is_some_and(|p| p.is_memcache());
        let port = cli.port.unwrap_or(if memcache { 11211 } else { 6379 });
        let host = cli.host.unwrap_or_else(|| "127.0.0.1".into());
        flags.target.endpoints = Some(Endpoints(vec![format!("{host}:{port}")]));
    }
    Plan::new(file.overlaid(flags)).map_err(impossible)
}

/// Sets `stop` at the first signal; the second ends the process.
fn stop_on_signal(stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            loop {
                tokio::select! {
                    got = tokio::signal::ctrl_c() => if got.is_err() { return },
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(())
}

fn run(plan: Plan) -> Done<ExitCode> {
    let files = Files::open(&plan).map_err(impossible)?;
    let (commands, reads) = roster(&plan);
    let mut recorder = Recorder::new(&plan, commands, reads, files);
    if let Some(address) = plan.prometheus {
        let page = recorder.export();
        let pages: crate::http::Pages = Arc::new(move |path| {
            let text = || {
                page.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().into_bytes()
            };
            (path == "/metrics").then(|| ("text/plain; version=0.0.4", text()))
        });
        let bound = crate::http::serve(address, pages)
            .map_err(|e| (IMPOSSIBLE, format!("output.prometheus = {address}: {e}")))?;
        eprintln!("metrics on http://{bound}/metrics");
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(stop.clone()).map_err(|e| (FAILED, format!("signals: {e}")))?;
    let result = carry_out(&plan, stop, &mut recorder);
    let steps = match &result {
        Ok(steps) => steps.as_slice(),
        Err(_) => &[],
    };
    let list = |of: fn(&Step) -> Vec<String>| steps.iter().flat_map(of).collect::<Vec<_>>();
    let (failures, void) = (list(Step::failures), list(|s| s.void.clone()));
    let partial: Vec<String> = steps.iter().filter_map(|s| s.partial.clone()).collect();
    let verdict = [("failures", &failures), ("void", &void), ("partial", &partial)];
    let verdict: Vec<_> = verdict.into_iter().map(|(k, v)| (k.to_owned(), v.join("\n"))).collect();
    let finished = recorder.finish(&verdict);
    if let Err(error) = &result {
        return Err((FAILED, error.to_string()));
    }
    finished.map_err(|e: ResultFileError| (FAILED, e.to_string()))?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn carry_out(
    plan: &Plan,
    stop: Arc<AtomicBool>,
    recorder: &mut Recorder,
) -> Result<Vec<Step>, RunError> {
    let mut conductor = Conductor::start(plan.clone(), stop, recorder)?;
    if plan.prefill {
        conductor.prefill(recorder)?;
    }
    // Standard output belongs to the JSON lines when they are sent there.
    let to_stderr = plan.json.as_ref().is_some_and(|p| p.as_os_str() == "-");
    let say = |text: String| if to_stderr { eprint!("{text}") } else { print!("{text}") };
    let steps = match &plan.search {
        Some(promise) => {
            let found = search(&mut conductor, promise, recorder)?;
            say(summary::of_search(&found));
            found.steps
        }
        None => {
            let step = conductor.drive(plan.rate, plan.warmup, plan.duration, recorder)?;
            say(summary::of_step(&recorder.about(), &step));
            vec![step]
        }
    };
    conductor.stop();
    Ok(steps)
}

fn show(paths: &[PathBuf], html: Option<PathBuf>, listen: SocketAddr) -> Done<ExitCode> {
    let results =
        paths.iter().map(|p| read(p)).collect::<Result<Vec<_>, _>>().map_err(impossible)?;
    let page = view::page(&results).map_err(impossible)?;
    if let Some(path) = html {
        std::fs::write(&path, page).map_err(|e| (FAILED, format!("{}: {e}", path.display())))?;
        println!("{}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let page = page.into_bytes();
    let pages: crate::http::Pages =
        Arc::new(move |path| (path == "/").then(|| ("text/html; charset=utf-8", page.clone())));
    let bound =
        crate::http::serve(listen, pages).map_err(|e| (FAILED, format!("{listen}: {e}")))?;
    println!("http://{bound}/ shows the results until this program is ended");
    loop {
        std::thread::park();
    }
}

fn differ(before: &std::path::Path, after: &std::path::Path) -> Done<ExitCode> {
    let (before, after) = (read(before).map_err(impossible)?, read(after).map_err(impossible)?);
    print!("{}", compare::table(&before, &after).map_err(impossible)?);
    Ok(ExitCode::SUCCESS)
}
