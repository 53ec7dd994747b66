//! Numbers as people read them.
//!
//! Always true: three significant digits and a unit. Called by the table, the summary and `compare`.

/// Nanoseconds with a unit.
#[must_use]
pub fn time(ns: u64) -> String {
    match ns {
        0 => "0".into(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => three(ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => three(ns as f64 / 1e6, "ms"),
        _ => three(ns as f64 / 1e9, "s"),
    }
}

/// A count or rate with a decimal prefix.
#[must_use]
pub fn count(n: f64) -> String {
    match n {
        n if n < 0.0 => format!("-{}", count(-n)),
        n if n < 1000.0 => {
            if n.fract() == 0.0 {
                format!("{n:.0}")
            } else {
                three(n, "").trim_end().to_owned()
            }
        }
        n if n < 1e6 => three(n / 1e3, "k").replace(' ', ""),
        n if n < 1e9 => three(n / 1e6, "M").replace(' ', ""),
        n => three(n / 1e9, "G").replace(' ', ""),
    }
}

/// Bytes with a binary prefix.
#[must_use]
pub fn bytes(n: f64) -> String {
    match n {
        n if n < 1024.0 => format!("{n:.0} B"),
        n if n < 1048576.0 => three(n / 1024.0, "KiB"),
        n if n < 1073741824.0 => three(n / 1048576.0, "MiB"),
        n => three(n / 1073741824.0, "GiB"),
    }
}

/// A share in percent; a dash where there is none.
#[must_use]
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |s| format!("{:.2} %", s * 100.0))
}

fn three(x: f64, unit: &str) -> String {
    let digits = if x < 10.0 { 2 } else { usize::from(x < 100.0) };
    format!("{x:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_500), "1.50 µs");
        assert_eq!(time(123_456_789), "123 ms");
        assert_eq!(time(12_345_678), "12.3 ms");
        assert_eq!(count(12.0), "12");
        assert_eq!(count(150_400.0), "150k");
        assert_eq!(count(1_250_000.0), "1.25M");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(percent(Some(0.98765)), "98.77 %");
        assert_eq!(percent(None), "-");
    }
}
