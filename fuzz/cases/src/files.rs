//! Files that people or other programs wrote: the host's configuration, the generator's traces.
//! Any bytes are read or refused; a refusal is one sentence.

use crucible_benchmark::config::choices::{TraceFormat, TraceSpeed};
use crucible_benchmark::config::plan::TracePlan;
use crucible_benchmark::trace::Traces;
use crucible_host::config::{Sources, load};
use crucible_host::plan::Plan;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::thread;

/// A file of the calling thread, written anew for each input.
fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let name = format!("crucible-{name}-{}-{:?}", process::id(), thread::current().id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, bytes).expect("a temporary file");
    path
}

pub(crate) fn config(bytes: &[u8]) {
    let path = written("config", bytes);
    let read = load(&Sources { file: Some(path.clone()), ..Sources::default() });
    let refusal = match read {
        Ok(settings) => Plan::new(settings).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    let _ = fs::remove_file(path);
    if let Some(sentence) = refusal {
        assert!(!sentence.trim().is_empty(), "refused without a word");
    }
}

pub(crate) fn trace(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let formats =
        [TraceFormat::Csv, TraceFormat::Twitter, TraceFormat::OracleGeneral, TraceFormat::Kt];
    let format = formats[usize::from(choice) % formats.len()];
    let path = written("trace", rest);
    let plan =
        TracePlan { path: path.clone(), format, speed: TraceSpeed::Fast, requests_max: 100_000 };
    if let Ok(requests) = Traces::open(&plan) {
        // A bad line ends the reading; until then each request took bytes of the file.
        let read = requests.take_while(Result::is_ok).count();
        assert!(read <= rest.len(), "{read} requests in {} bytes", rest.len());
    }
    let _ = fs::remove_file(path);
}
