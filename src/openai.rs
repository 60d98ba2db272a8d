//! What OpenAI's formats have in common: refusals that name a parameter, the parts of a message's content.

/// Why a request is refused, as OpenAI says it: [the error object](https://platform.openai.com/docs/guides/error-codes).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// What was wrong, for a person; names the parameter, never repeats more than a little of the input.
    pub message: String,
    /// Which parameter, for instance `input[2].content`.
    pub param: Option<String>,
    /// The stable code, for instance `unsupported_parameter`.
    pub code: &'static str,
}
