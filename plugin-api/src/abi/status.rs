//! The outcome of an operation, as a number that may grow.

use abi_stable::StableAbi;

/// Outcome of an operation or of a call over the boundary.
///
/// Zero and above is an answer, below zero is a failure.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(pub i32);

impl Status {
    /// Done as asked.
    pub const OK: Self = Self(0);
    /// No such key (or it has expired).
    pub const MISS: Self = Self(1);
    /// The key exists, but its CAS token or value is not the expected one.
    pub const EXISTS: Self = Self(2);
    /// The condition did not hold; nothing was changed.
    pub const NOT_STORED: Self = Self(3);
    /// The answer comes later through `WorkerApi::complete`.
    pub const PENDING: Self = Self(4);

    /// The backend does not know the operation.
    pub const UNSUPPORTED: Self = Self(-1);
    /// Key or value is longer than the backend takes.
    pub const TOO_LARGE: Self = Self(-2);
    /// No memory could be had, not even by eviction.
    pub const NO_MEMORY: Self = Self(-3);
    /// The key holds another kind of value.
    pub const WRONG_TYPE: Self = Self(-4);
    /// Arithmetic on a value that is not a number.
    pub const NOT_NUMBER: Self = Self(-5);
    /// Arithmetic left the range of the number.
    pub const OVERFLOW: Self = Self(-6);
    /// The operation's fields contradict each other.
    pub const INVALID: Self = Self(-7);
    /// A queue is full; try again.
    pub const BUSY: Self = Self(-8);
    /// A float was wanted and the value is none.
    pub const NOT_FLOAT: Self = Self(-9);
    /// A result would be infinite or not a number.
    pub const NOT_FINITE: Self = Self(-10);
    /// An index behind the end.
    pub const OUT_OF_RANGE: Self = Self(-11);
    /// The store failed; its state is not to be trusted.
    pub const INTERNAL: Self = Self(-98);
    /// The plugin panicked.
    pub const PANICKED: Self = Self(-99);

    /// True for an answer, false for a failure.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        self.0 >= 0
    }

    /// The constant's name, or `"unknown"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OK => "ok",
            Self::MISS => "miss",
            Self::EXISTS => "exists",
            Self::NOT_STORED => "not-stored",
            Self::PENDING => "pending",
            Self::UNSUPPORTED => "unsupported",
            Self::TOO_LARGE => "too-large",
            Self::NO_MEMORY => "no-memory",
            Self::WRONG_TYPE => "wrong-type",
            Self::NOT_NUMBER => "not-number",
            Self::OVERFLOW => "overflow",
            Self::INVALID => "invalid",
            Self::BUSY => "busy",
            Self::NOT_FLOAT => "not-float",
            Self::NOT_FINITE => "not-finite",
            Self::OUT_OF_RANGE => "out-of-range",
            Self::INTERNAL => "internal",
            Self::PANICKED => "panicked",
            _ => "unknown",
        }
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}
