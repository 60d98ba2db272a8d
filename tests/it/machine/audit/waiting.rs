//! Commands that wait, and the one first record that each command has.

use steerage::{
    command::{CommandKind, Status, SteerWhen},
    id::CommandId,
};

use super::Audit;

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: CommandId,
    pub(super) kind: CommandKind,
    pub(super) when: SteerWhen,
    pub(super) content: String,
}

impl Audit {
    pub(super) fn first_record(&mut self, id: &CommandId, seq: u64, status: Status) {
        assert!(self.commands.insert(id.clone(), (seq, status)).is_none(), "one first record per command: {id}");
    }

    pub(super) fn applied(&mut self, id: &CommandId, kind: CommandKind, seq: u64) {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.id == *id) else {
            self.first_record(id, seq, Status::Applied);
            if let CommandKind::Steer | CommandKind::Send = kind {
                assert_eq!(self.last_input.as_ref().map(|(by, _)| by), Some(id), "it was said");
            }
            return;
        };
        let waiting = self.waiting.remove(at);
        let earlier = &self.waiting[..at];
        let same_boundary =
            |other: &Waiting| (other.when == SteerWhen::NextRun) == (waiting.when == SteerWhen::NextRun);
        assert!(!earlier.iter().any(same_boundary), "first come, first said");
        assert_eq!(self.last_input, Some((waiting.id, waiting.content)), "what waited is what is said");
        assert_eq!(waiting.kind, kind);
    }
}
