//! Lists of CPUs as people write them: `0,2,4-7:2` is exactly 0, 2, 4 and 6.
//!
//! What must always be true: the list keeps the order and the numbers that were written; a worker
//! takes the CPU at its own place and no other. Called by the configuration and by the launch.

use std::str::FromStr;

/// CPUs in the order they were listed; worker `i` is pinned to entry `i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

/// CPU numbers above this are refused: the size of the kernel's default CPU set.
pub const CPU_MAX: usize = 1023;

/// Why a list was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// Nothing is listed.
    #[error("the CPU list is empty")]
    Empty,
    /// An entry is neither `N`, `A-B` nor `A-B:STEP`.
    #[error("`{entry}` in a CPU list is neither N, A-B nor A-B:STEP")]
    Malformed {
        /// The entry as written.
        entry: String,
    },
    /// A range that runs backwards.
    #[error("`{entry}` in a CPU list runs backwards")]
    Backwards {
        /// The entry as written.
        entry: String,
    },
    /// A range with a step of zero.
    #[error("`{entry}` in a CPU list has a step of zero")]
    ZeroStep {
        /// The entry as written.
        entry: String,
    },
    /// A number above [`CPU_MAX`].
    #[error("CPU {cpu} is above the limit of {CPU_MAX}")]
    TooLarge {
        /// The number as written.
        cpu: usize,
    },
    /// A CPU listed twice: two workers would share it.
    #[error("CPU {cpu} is listed twice")]
    Twice {
        /// The number as written.
        cpu: usize,
    },
}

impl CpuList {
    /// The CPUs in order.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// How many CPUs are listed.
    #[expect(clippy::len_without_is_empty, reason = "a list is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let mut cpus = Vec::new();
        if text.trim().is_empty() {
            return Err(CpuListError::Empty);
        }
        for entry in text.split(',') {
            let (first, last, step) = parse_entry(entry.trim())?;
            if last > CPU_MAX {
                return Err(CpuListError::TooLarge { cpu: last });
            }
            for cpu in (first..=last).step_by(step) {
                if cpus.contains(&cpu) {
                    return Err(CpuListError::Twice { cpu });
                }
                cpus.push(cpu);
            }
        }
        Ok(CpuList(cpus))
    }
}

impl TryFrom<Vec<usize>> for CpuList {
    type Error = CpuListError;

    fn try_from(cpus: Vec<usize>) -> Result<Self, CpuListError> {
        if cpus.is_empty() {
            return Err(CpuListError::Empty);
        }
        for (i, &cpu) in cpus.iter().enumerate() {
            if cpu > CPU_MAX {
                return Err(CpuListError::TooLarge { cpu });
            }
            if cpus[..i].contains(&cpu) {
                return Err(CpuListError::Twice { cpu });
            }
        }
        Ok(CpuList(cpus))
    }
}

impl std::fmt::Display for CpuList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, cpu) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{cpu}")?;
        }
        Ok(())
    }
}

fn parse_entry(entry: &str) -> Result<(usize, usize, usize), CpuListError> {
    let malformed = || CpuListError::Malformed { entry: entry.to_owned() };
    let number = |text: &str| -> Result<usize, CpuListError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        text.parse().map_err(|_| malformed())
    };
    let Some((first, rest)) = entry.split_once('-') else {
        let cpu = number(entry)?;
        return Ok((cpu, cpu, 1));
    };
    let (last, step) = match rest.split_once(':') {
        Some((last, step)) => (number(last)?, number(step)?),
        None => (number(rest)?, 1),
    };
    let first = number(first)?;
    if step == 0 {
        return Err(CpuListError::ZeroStep { entry: entry.to_owned() });
    }
    if last < first {
        return Err(CpuListError::Backwards { entry: entry.to_owned() });
    }
    Ok((first, last, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<usize>, CpuListError> {
        text.parse::<CpuList>().map(|l| l.0)
    }

    #[test]
    fn a_pinned_list_means_exactly_the_listed_cpus_in_order() {
        assert_eq!(list("0,2,4-7:2"), Ok(vec![0, 2, 4, 6]));
        assert_eq!(list("3"), Ok(vec![3]));
        assert_eq!(list("7,1, 0"), Ok(vec![7, 1, 0]));
        assert_eq!(list("0-3"), Ok(vec![0, 1, 2, 3]));
        assert_eq!(list("0-10:5"), Ok(vec![0, 5, 10]));
        assert_eq!(list("1023"), Ok(vec![1023]));
    }

    #[test]
    fn a_malformed_cpu_list_is_refused_by_cause() {
        assert_eq!(list(""), Err(CpuListError::Empty));
        assert_eq!(list("  "), Err(CpuListError::Empty));
        for bad in ["a", "1,,2", "1-", "-1", "1-2:", "1:2", "0x1", "+1", "1-2-3", "1,"] {
            assert!(matches!(list(bad), Err(CpuListError::Malformed { .. })), "{bad}");
        }
        assert!(matches!(list("4-2"), Err(CpuListError::Backwards { .. })));
        assert!(matches!(list("0-4:0"), Err(CpuListError::ZeroStep { .. })));
        assert_eq!(list("1024"), Err(CpuListError::TooLarge { cpu: 1024 }));
        assert_eq!(list("0,1,0-2"), Err(CpuListError::Twice { cpu: 0 }));
        assert_eq!(CpuList::try_from(vec![]), Err(CpuListError::Empty));
        assert_eq!(CpuList::try_from(vec![1, 1]), Err(CpuListError::Twice { cpu: 1 }));
    }
}
