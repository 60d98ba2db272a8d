//! Chat Completions of OpenAI: one run is one completion.

pub mod request;
