//! Single chunks.
