//! Settings that CONFIG SET changes while the server runs. They begin as the listener's settings;
//! what is changed holds until the server ends, for all connections from their next command on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::settings::Settings;

/// The settings.
#[derive(Debug)]
pub struct Live {
    bulk_len_bytes_max: AtomicU64,
    request_len_bytes_max: AtomicU64,
    tells_latency: AtomicBool,
    percentiles: Mutex<Vec<f64>>,
}

impl Live {
    pub(super) fn new(settings: &Settings) -> Self {
        Live {
            bulk_len_bytes_max: AtomicU64::new(u64::from(settings.bulk_len_bytes_max)),
            request_len_bytes_max: AtomicU64::new(u64::from(settings.request_len_bytes_max)),
            tells_latency: AtomicBool::new(true),
            percentiles: Mutex::new(vec![50.0, 99.0, 99.9]),
        }
    }

    /// CONFIG's `proto-max-bulk-len`.
    #[inline]
    pub fn bulk_len_bytes_max(&self) -> u64 {
        self.bulk_len_bytes_max.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_bulk_len_bytes_max(&self, bytes: u64) {
        self.bulk_len_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// CONFIG's `client-query-buffer-limit`.
    pub fn request_len_bytes_max(&self) -> u64 {
        self.request_len_bytes_max.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_request_len_bytes_max(&self, bytes: u64) {
        self.request_len_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// CONFIG's `latency-tracking`: whether INFO and LATENCY HISTOGRAM tell times.
    pub fn tells_latency(&self) -> bool {
        self.tells_latency.load(Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set_tells_latency(&self, tells: bool) {
        self.tells_latency.store(tells, Ordering::Relaxed);
    }

    /// CONFIG's `latency-tracking-info-percentiles`.
    pub fn percentiles(&self) -> Vec<f64> {
        self.percentiles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes them.
    pub fn set_percentiles(&self, percentiles: Vec<f64>) {
        *self.percentiles.lock().unwrap_or_else(PoisonError::into_inner) = percentiles;
    }
}
