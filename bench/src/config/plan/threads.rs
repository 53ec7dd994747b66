//! Processors for the worker threads.
//!
//! Always true: a listed processor exists. Called by the plan.

use super::error::{PlanError, impossible};

/// The processors of a list like `2,4-7`.
pub(super) fn cpu_list(text: &str) -> Result<Vec<usize>, PlanError> {
    let bad = || impossible("general.cpu_list", text, "must be like 2,4-7");
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (low, high) = item.trim().split_once('-').unwrap_or((item.trim(), item.trim()));
        let number = |text: &str| text.parse::<usize>().map_err(|_| bad());
        let (low, high) = (number(low)?, number(high)?);
        if low > high || high > 4095 {
            return Err(bad());
        }
        cpus.extend(low..=high);
    }
    let online = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
    if let Some(cpu) = cpus
        .iter()
        .find(|c| !std::path::Path::new(&format!("/sys/devices/system/cpu/cpu{c}")).exists())
    {
        return Err(impossible(
            "general.cpu_list",
            text,
            format!("processor {cpu} does not exist ({online} do)"),
        ));
    }
    Ok(cpus)
}
