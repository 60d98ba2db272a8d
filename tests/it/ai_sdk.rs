//! The AI SDK dialect: what an unmodified client of the SDK is sent.

pub(crate) mod fold;
