//! gRPC status codes and the sentences that go with them.

use crucible_plugin_api::Status as StoreStatus;

/// A failed call: code and sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// See [`code`].
    pub(crate) code: u32,
    /// For people.
    pub(crate) message: String,
}

/// The gRPC status codes in use here.
pub(crate) mod code {
    pub(crate) const INVALID_ARGUMENT: u32 = 3;
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    pub(crate) const NOT_FOUND: u32 = 5;
    pub(crate) const ALREADY_EXISTS: u32 = 6;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const FAILED_PRECONDITION: u32 = 9;
    pub(crate) const UNIMPLEMENTED: u32 = 12;
    pub(crate) const INTERNAL: u32 = 13;
    pub(crate) const UNAVAILABLE: u32 = 14;
    pub(crate) const UNAUTHENTICATED: u32 = 16;
}

impl Failure {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_ARGUMENT, message)
    }

    /// What a store's refusal means to a caller.
    pub(crate) fn of(status: StoreStatus) -> Self {
        match status {
            StoreStatus::TOO_LARGE => Self::invalid("key or value is longer than the cache takes"),
            StoreStatus::NO_MEMORY | StoreStatus::BUSY => {
                Self::new(code::RESOURCE_EXHAUSTED, "the cache has no memory left for this value")
            }
            StoreStatus::NOT_NUMBER => {
                Self::new(code::FAILED_PRECONDITION, "the stored value is not an integer")
            }
            StoreStatus::OVERFLOW => {
                Self::new(code::FAILED_PRECONDITION, "the increment would overflow 64 bits")
            }
            StoreStatus::NOT_FINITE | StoreStatus::NOT_FLOAT => {
                Self::new(code::FAILED_PRECONDITION, "the score would not be a number")
            }
            StoreStatus::WRONG_TYPE => {
                Self::new(code::FAILED_PRECONDITION, "the key holds another type of item")
            }
            StoreStatus::UNSUPPORTED => {
                Self::new(code::UNIMPLEMENTED, "the storage backend does not serve this operation")
            }
            other => Self::new(code::INTERNAL, format!("the store answered {}", other.name())),
        }
    }
}
