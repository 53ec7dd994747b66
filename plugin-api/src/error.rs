//! Why a plugin could not be made.

/// A refusal at start: one sentence for the operator.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PluginError {
    /// The settings do not parse; the path names the key.
    #[error("setting {path}: {reason}")]
    Setting {
        /// The key, as in the configuration file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The backend lacks something the protocol cannot do without.
    #[error("needs a backend with {0}")]
    MissingCapability(String),
    /// The system refused memory or another resource.
    #[error("{0}")]
    Resource(String),
}

impl PluginError {
    /// A bad value of a named setting.
    pub fn setting(path: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Setting { path: path.into(), reason: reason.to_string() }
    }
}
