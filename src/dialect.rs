//! Outward wire formats: pure folds from frames to bytes.

pub mod ai_sdk;
pub mod native;
