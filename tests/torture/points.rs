//! The named crash points of the product, and which of them have been reached.

use std::collections::BTreeMap;

/// Every point, with how often it may be passed before it is fatal: some are passed for every token, some by one
/// command in twenty.
pub(crate) const POINTS: [(&str, u32); 17] = [
    ("append.before_write", 300),
    ("append.after_write", 300),
    ("append.before_reply", 300),
    ("chunk.before_commit", 6),
    ("chunk.after_commit", 6),
    ("ack.before_send", 40),
    ("cancel.before_store", 6),
    ("cancel.after_store", 6),
    ("tool.after_start_record", 4),
    ("tool.after_dispatch", 4),
    ("tool.before_result", 4),
    ("recover.before_append", 3),
    ("recover.after_append", 3),
    ("delete.before_commit", 1),
    ("delete.after_commit", 1),
    ("checkpoint.before", 1),
    ("checkpoint.after", 1),
];

/// Whether the points are in this binary.
pub(crate) const BUILT_IN: bool = cfg!(feature = "crash-points");

/// How often each point was armed, and how often it was reached.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, (u32, u32)>);

impl Tally {
    pub(crate) fn armed(&mut self, point: &'static str) {
        self.0.entry(point).or_default().0 += 1;
    }

    pub(crate) fn reached(&mut self, point: &'static str) {
        self.0.entry(point).or_default().1 += 1;
    }

    /// Every point with how often it was reached, of how often it was armed.
    pub(crate) fn table(&self) -> String {
        let of = |name: &str| self.0.get(name).copied().unwrap_or_default();
        let cell = |(name, _): &(&str, u32)| format!("{name} {}/{}", of(name).1, of(name).0);
        POINTS.iter().map(cell).collect::<Vec<_>>().join(", ")
    }

    /// How many points were reached, and what is said of those that were not.
    pub(crate) fn summary(&self) -> (usize, Vec<&'static str>) {
        let hit = |name: &str| self.0.get(name).is_some_and(|(_, reached)| *reached > 0);
        let (reached, missed): (Vec<_>, Vec<_>) = POINTS.iter().map(|(name, _)| *name).partition(|name| hit(name));
        (reached.len(), missed)
    }
}
