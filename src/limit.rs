//! How much there may be at once, how often something may be done, what a socket may send, and how much memory is left.
//!
//! Each of these only counts. What is refused, in which words and with which status, is the matter of whoever asks.

mod inflow;
mod memory;
mod quota;
mod rate;

pub use inflow::{Inflow, TooMuch};
pub use memory::{CRITICAL_PERCENT, HIGH_PERCENT, Memory, Pressure, pressure};
pub use quota::{Full, Permit, Quotas};
pub use rate::{Bucket, Buckets, KEYS_MAX, Rate};
