//! Policies: which slab goes when room is needed.
//!
//! * `lra`: the least recently accessed; and of it and the next one of its class,
//!   the items that were read more often survive, in one slab for two
//! * `lrc`: the least recently created, whole
//! * `random`: any, whole
//! * `none`: no slab goes; a store without memory answers NO_MEMORY

/// Which slab goes when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The least recently accessed.
    Lra,
    /// The least recently created.
    Lrc,
    /// Any.
    Random,
    /// None.
    Never,
}

impl Policy {
    const ALL: [Policy; 4] = [Policy::Lra, Policy::Lrc, Policy::Random, Policy::Never];

    /// The name in configurations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Lra => "lra",
            Policy::Lrc => "lrc",
            Policy::Random => "random",
            Policy::Never => "none",
        }
    }

    /// All names, the default first.
    pub(crate) fn names() -> String {
        Self::ALL.map(Policy::name).join(", ")
    }

    /// The policy of a name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_its_name() {
        for policy in Policy::ALL {
            assert_eq!(Policy::of(policy.name()), Some(policy));
        }
        assert_eq!(Policy::of("s3fifo"), None);
    }
}
