//! Single events.
