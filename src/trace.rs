//! Runs and their model calls as spans of OpenTelemetry, where the build has it (feature `otel`); without it nothing is
//! kept and nothing is called. No prompt and no word of an answer is ever in one.

use crate::event::{FailureCode, FinishReason, Usage};

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod on;

#[cfg(not(feature = "otel"))]
pub use off::{Spans, Tracer};
#[cfg(feature = "otel")]
pub use on::{Spans, Tracer};

/// How a model call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// With a whole answer.
    Finished {
        /// Why it is whole.
        finish_reason: FinishReason,
        /// Tokens, where the upstream counted them.
        usage: Usage,
    },
    /// With an error.
    Failed(FailureCode),
    /// A steer, a cancel or a limit cut it.
    Cut,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// By itself.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// With an error.
    Failed(FailureCode),
}
