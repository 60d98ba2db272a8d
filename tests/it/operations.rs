//! What an operator has: the doors of their own, what is measured, the log, and documents that do not lie.

mod admin;
mod documents;
pub(crate) mod logs;
mod measured;
pub(crate) mod scrape;
