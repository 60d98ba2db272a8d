//! The AI SDK dialect: what an unmodified client of the SDK is sent.

mod fold;
