//! Why the registry has no session for whoever asks.

use std::time::Duration;

use crate::store::StoreError;

/// Why there is no such session, or cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No session of that name: unknown, deleted or expired.
    #[error("there is no such session")]
    NotFound,
    /// There is one of that name already.
    #[error("a session of that id exists")]
    Exists,
    /// No provider offers that model.
    #[error("no provider offers the model {0}")]
    UnknownModel(String),
    /// What was asked for makes no sense; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// Its log in the store cannot be read; the text names the event.
    #[error("{0}")]
    Damaged(String),
    /// The process is at its limit, and each of its sessions is in use.
    #[error("this server holds at most {0} sessions in memory (limits.sessions_max), and all of them are in use")]
    Full(usize),
    /// The tenant is at its limit, and each of its sessions is in use.
    #[error("a tenant has at most {0} sessions in memory (tenant_limits.sessions_max), and all of them are in use")]
    TenantFull(usize),
    /// The tenant has as many runs as it may.
    #[error("a tenant has at most {0} runs at once (tenant_limits.runs_max), and all of them go on")]
    TooManyRuns(usize),
    /// The tenant creates sessions faster than it may.
    #[error("a tenant creates at most {per_s} sessions a second (limits.session_creates_per_s)")]
    TooFast {
        /// How many it may, a second.
        per_s: u32,
        /// When there is room for one.
        retry_after: Duration,
    },
    /// The process uses most of the memory that it may.
    #[error("this server uses most of its {max} bytes of memory (limits.memory_max_bytes) and begins nothing new")]
    MemoryScarce {
        /// Bytes that it may use.
        max: u64,
    },
    /// The process is about to stop.
    #[error("this server is stopping")]
    Stopping,
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(StoreError),
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound,
            StoreError::Exists => Self::Exists,
            StoreError::Damaged(what) => Self::Damaged(what),
            error => Self::Store(error),
        }
    }
}
