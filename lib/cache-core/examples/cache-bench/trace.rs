//! Traces: objects with sizes and TTLs, and a sequence of requests.

use crate::zipf::{Rng, Zipf};
use std::collections::HashMap;
use std::process::Command;

pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) sizes: Vec<u32>,
    pub(crate) requests: Vec<u32>,
}

impl Trace {
    pub(crate) fn load(path: &str) -> Result<Self, String> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let name = name.split(".kt").next().unwrap_or(name).to_owned();
        if let Some(trace) = synthetic(&name) {
            return Ok(trace);
        }
        let bytes = if path.ends_with(".xz") {
            let out = Command::new("xz")
                .args(["-dc", path])
                .output()
                .map_err(|e| format!("{path}: xz does not start: {e}"))?;
            if !out.status.success() {
                return Err(format!("{path}: {}", String::from_utf8_lossy(&out.stderr).trim()));
            }
            out.stdout
        } else {
            std::fs::read(path).map_err(|e| format!("{path}: {e}"))?
        };
        if bytes.starts_with(b"KTR1") {
            read_kt(name, &bytes)
        } else if path.contains("oracleGeneral") {
            Ok(read_oracle(name, &bytes))
        } else {
            read_csv(name, &bytes)
        }
    }

    /// Bytes of all objects.
    pub(crate) fn footprint_bytes(&self) -> u64 {
        self.sizes.iter().map(|s| u64::from(*s)).sum()
    }
}

fn read_kt(name: String, bytes: &[u8]) -> Result<Trace, String> {
    let words: Vec<u32> =
        bytes[4..].chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    let [n, m, ..] = words[..] else { return Err(format!("{name}: no header")) };
    let (n, m) = (n as usize, m as usize);
    if words.len() < 2 + 2 * m + n {
        return Err(format!("{name}: cut short"));
    }
    Ok(Trace {
        name,
        sizes: words[2..2 + m].to_vec(),
        requests: words[2 + 2 * m..2 + 2 * m + n].to_vec(),
    })
}

struct Ids {
    ids: HashMap<u64, u32>,
    sizes: Vec<u32>,
    requests: Vec<u32>,
}

impl Ids {
    fn new() -> Self {
        Self { ids: HashMap::new(), sizes: Vec::new(), requests: Vec::new() }
    }

    fn request(&mut self, object: u64, size: u32) {
        let next = self.sizes.len() as u32;
        let id = *self.ids.entry(object).or_insert(next);
        if id == next {
            self.sizes.push(size);
        }
        self.requests.push(id);
    }

    fn done(self, name: String) -> Trace {
        Trace { name, sizes: self.sizes, requests: self.requests }
    }
}

/// libCacheSim's records of 24 bytes: time u32, object u64, size u32, next i64.
fn read_oracle(name: String, bytes: &[u8]) -> Trace {
    let mut ids = Ids::new();
    for record in bytes.chunks_exact(24) {
        let object = u64::from_le_bytes(record[4..12].try_into().expect("eight bytes"));
        let size = u32::from_le_bytes(record[12..16].try_into().expect("four bytes"));
        ids.request(object, size);
    }
    ids.done(name)
}

/// Lines of `time,key,size[,..]`; a heading is skipped.
fn read_csv(name: String, bytes: &[u8]) -> Result<Trace, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("{name}: neither a known format nor text"))?;
    let mut ids = Ids::new();
    for line in text.lines() {
        let mut fields = line.split(',').map(str::trim);
        let (_, key, size) = (fields.next(), fields.next(), fields.next());
        let (Some(key), Some(Ok(size))) = (key, size.map(str::parse::<u32>)) else { continue };
        let object = key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        ids.request(object, size);
    }
    if ids.requests.is_empty() {
        Err(format!("{name}: no request in it"))
    } else {
        Ok(ids.done(name))
    }
}

/// The recipes of the reference's synthetic traces: one million objects, ten
/// million requests.
fn synthetic(name: &str) -> Option<Trace> {
    const N: usize = 1_000_000;
    const REQUESTS: usize = 10_000_000;
    let (family, kind) = name.split_once('-').unwrap_or((name, ""));
    let alpha: f64 = family.strip_prefix("zipf")?.parse().ok()?;
    let mut rng = Rng::new(1);
    let hot = if kind == "loop" { N * 3 / 10 } else { N };
    let zipf = Zipf::new(hot, alpha);
    let mut place: Vec<u64> = (0..hot as u64).collect();
    rng.shuffle(&mut place);
    let mut fresh = 4 * N as u64;
    let mut ids = Ids::new();
    let mut raw: Vec<u64> = Vec::with_capacity(REQUESTS + N);
    match kind {
        "" => raw.extend((0..REQUESTS).map(|_| place[zipf.rank(&mut rng)])),
        "scan" => {
            while raw.len() < REQUESTS {
                raw.extend((0..100_000).map(|_| place[zipf.rank(&mut rng)]));
                raw.extend(fresh..fresh + 25_000);
                fresh += 25_000;
            }
        }
        "drift" => {
            for _ in 0..20 {
                raw.extend((0..REQUESTS / 20).map(|_| place[zipf.rank(&mut rng)]));
                for _ in 0..N / 20 {
                    place[rng.below(N as u64) as usize] = fresh;
                    fresh += 1;
                }
                for _ in 0..100 {
                    place[rng.below(1000) as usize] = fresh;
                    fresh += 1;
                }
            }
        }
        "loop" => {
            let mut at = 0u64;
            for _ in 0..REQUESTS {
                if rng.unit() < 0.3 {
                    raw.push(N as u64 + at % (N as u64 / 5));
                    at += 1;
                } else {
                    raw.push(place[zipf.rank(&mut rng)]);
                }
            }
        }
        _ => return None,
    }
    for object in raw.into_iter().take(REQUESTS) {
        let next = ids.sizes.len() as u64;
        ids.request(object, log_normal(next));
    }
    Some(ids.done(name.to_owned()))
}

/// Value sizes as in the reference's recipes: median 180 bytes, sigma 1.
fn log_normal(i: u64) -> u32 {
    use crate::zipf::mix;
    let unit = |x: u64| (mix(x) >> 11) as f64 / (1u64 << 53) as f64;
    let (a, b) = (unit(2 * i + 1_000_003).max(1e-300), unit(2 * i + 1 + 1_000_003));
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    (180.0 * normal.exp()).clamp(16.0, 8192.0) as u32
}
