//! The event loop's part of the plan.
//!
//! What must always be true: limits stand in their order, and ranges that the event loop refuses
//! are refused here. Called by `Plan::new`.

use std::time::Duration;

use super::{PlanError, bad};
use crate::config::Settings;
use crate::config::value::{Accept, Setting, Size, ZeroCopy, quoted};
use crate::services::process;

pub(super) fn event_loop(settings: &Settings) -> Result<kompio::Config, PlanError> {
    let mut config = kompio::Config::default();
    let (limits, uring) = (&settings.limits, &settings.uring);
    let cpus = settings.workers.cpu_affinity.clone();
    config.workers = match (settings.workers.threads, &cpus) {
        (Some(threads), _) => threads,
        (None, Some(cpus)) => cpus.len(),
        (None, None) => process::cpus(),
    };
    if !(1..=kompio::limits::WORKERS_MAX).contains(&config.workers) {
        let reason = format!("expected 1 to {}", kompio::limits::WORKERS_MAX);
        return Err(bad(
            "the configuration",
            "workers.threads",
            config.workers.to_string(),
            reason,
        ));
    }
    if let Some(list) = &cpus
        && list.len() != config.workers
    {
        let reason = format!(
            "{} CPUs for {} threads; list one CPU for each thread",
            list.len(),
            config.workers
        );
        return Err(bad(
            "the configuration",
            "workers.cpu_affinity",
            quoted(&list.to_string()),
            reason,
        ));
    }
    config.cpus = cpus;
    config.name = "worker".into();
    if limits.max_connections == 0 {
        return Err(bad("the configuration", "limits.max_connections", "0", "expected at least 1"));
    }
    config.max_connections = limits.max_connections;
    config.accept = match uring.accept {
        Accept::RoundRobin => kompio::AcceptMode::RoundRobin,
        Accept::ReusePort => kompio::AcceptMode::ReusePort,
    };
    config.backlog = uring.backlog;
    config.keepalive = uring.keepalive.filter(|d| !d.is_zero());
    config.sq_entries = uring.sq_entries;
    config.cq_entries = uring.cq_entries;
    config.recv_ring_bytes = bytes(uring.recv_buffers);
    config.incremental_buffers = uring.incremental_buffers;
    config.direct_descriptors = uring.direct_descriptors;
    config.zero_copy = match uring.zero_copy {
        ZeroCopy::Off => kompio::ZeroCopy::Off,
        ZeroCopy::Probe => kompio::ZeroCopy::Probe,
    };
    config.zero_copy_part_bytes_min = bytes(uring.zero_copy_min);
    config.min_wait_us = micros(uring.min_wait);
    config.busy_poll_us = micros(uring.busy_poll);
    config.sqpoll_idle_ms = uring.sqpoll_idle.map(|d| micros(d) / 1000);
    let order = [
        ("limits.output_resume", limits.output_resume, limits.output_pause, "output_pause"),
        ("limits.output_pause", limits.output_pause, limits.output_max, "output_max"),
    ];
    for (key, low, high, above) in order {
        if low >= high {
            let value = low.write().unwrap_or_default();
            return Err(bad("the configuration", key, value, format!("must be below {above}")));
        }
    }
    config.input_limit_bytes = bytes(limits.input_max);
    config.output_high_water_bytes = bytes(limits.output_pause);
    config.output_low_water_bytes = bytes(limits.output_resume);
    config.output_hard_limit_bytes = bytes(limits.output_max);
    config.check()?;
    Ok(config)
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
