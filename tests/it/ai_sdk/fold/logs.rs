//! Whatever log there can be.
