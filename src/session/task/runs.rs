//! The run of a session among those of its tenant: whether it may begin, and for how long it counts.

use super::Task;
use crate::{
    command::{Command, IfIdle},
    limit::Full,
};

impl Task {
    /// A run counts from the step that begins it to the one that ends it. One that nobody was asked about, the next of a
    /// queue or one that was taken over, counts beyond the limit.
    pub(super) fn count_run(&mut self) {
        match self.state.fold.run.is_some() {
            true if self.run.is_none() => self.run = Some(self.world.runs.count(&self.shared.key.tenant)),
            false => self.run = None,
            true => {}
        }
    }

    /// Whether the tenant may have the run that the command would begin. Asked by the session's one writer, so that
    /// between this and the beginning nothing happens.
    pub(super) fn may_begin(&mut self, command: &Command) -> Result<(), Full> {
        let begins = match command {
            Command::Send(_) | Command::Regenerate(_) => true,
            Command::Steer(steer) => steer.if_idle == IfIdle::Start,
            Command::ToolResult(_) => self.state.fold.hands_over(),
            _ => false,
        };
        // What was answered before is answered again, whatever there is.
        let known = command.command_id().is_some_and(|id| self.state.fold.receipts.contains_key(id));
        if begins && !known && self.state.fold.run.is_none() {
            self.run = Some(self.world.runs.take(&self.shared.key.tenant)?);
        }
        Ok(())
    }
}
