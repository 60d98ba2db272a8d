//! Outward wire formats: pure folds from frames to bytes.

pub mod native;
