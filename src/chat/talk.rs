//! What a line, an event and Ctrl-C mean: pure.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;
use steerage::{
    command::{Approve, Cancel, Command, Deny, Receipt, Send, Status, Steer},
    event::Event,
    id::{ApprovalId, CommandId, EventId, RunId, Seq},
};

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Do {
    Nothing,
    /// Give it, with a fresh id.
    Give(Command),
    /// Say this and ask again.
    Again(String),
    Leave,
}

/// One approval that waits.
#[derive(Debug)]
struct Request {
    approval_id: ApprovalId,
    /// New arguments are being asked for.
    editing: bool,
    /// An answer is under way.
    answered: bool,
}

/// Where the conversation is.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    run: Option<RunId>,
    requests: VecDeque<Request>,
    /// Ctrl-C was pressed in this run.
    interrupted: bool,
    /// The newest position that was read, and the newest that a receipt named.
    seen: Seq,
    promised: Seq,
    /// Commands that wait for their boundary, and commands whose end is in the log.
    accepted: HashSet<CommandId>,
    closed: HashSet<CommandId>,
    /// Commands given that have no receipt.
    pub(crate) under_way: usize,
    /// A run has failed, or words were refused.
    pub(crate) failed: bool,
}

impl Talk {
    /// Forgets what the log said; it is read again.
    pub(crate) fn reset(&mut self) {
        *self = Self { under_way: self.under_way, failed: self.failed, ..Self::default() };
    }

    /// Takes an event in.
    pub(crate) fn event(&mut self, id: EventId, event: Option<&Event>) {
        self.seen = id.seq;
        match event {
            Some(Event::RunStarted { run_id, .. }) => (self.run, self.interrupted) = (Some(run_id.clone()), false),
            Some(event) if event.ends_run() => self.run = None,
            Some(Event::ApprovalRequested { approval_id, .. }) => {
                let approval_id = approval_id.clone();
                self.requests.push_back(Request { approval_id, editing: false, answered: false });
            }
            Some(Event::ApprovalResolved { approval_id, .. }) => {
                self.requests.retain(|request| request.approval_id != *approval_id);
            }
            Some(
                Event::CommandApplied { command_id, .. }
                | Event::CommandRejected { command_id, .. }
                | Event::CommandWithdrawn { command_id, .. },
            ) => drop(self.closed.insert(command_id.clone())),
            _ => {}
        }
    }

    /// Takes a receipt in. Everything a command did is at or before its position.
    pub(crate) fn receipt(&mut self, receipt: &Receipt) {
        self.promised = self.promised.max(receipt.seq);
        if receipt.status == Status::Accepted {
            self.accepted.insert(receipt.command_id.clone());
        }
    }

    /// An answer to an approval was refused: it may be answered again, if it still waits.
    pub(crate) fn refused(&mut self, command: &Command) {
        if let Command::Approve(Approve { approval_id, .. }) | Command::Deny(Deny { approval_id, .. }) = command {
            let refused = self.requests.iter_mut().find(|request| request.approval_id == *approval_id);
            refused.into_iter().for_each(|request| request.answered = false);
        }
    }

    /// Whether nothing runs and everything that was said has had its whole effect, as far as we have read.
    pub(crate) fn is_settled(&self) -> bool {
        self.run.is_none()
            && self.under_way == 0
            && self.seen >= self.promised
            && self.accepted.iter().all(|command| self.closed.contains(command))
    }

    /// The question that the next line answers.
    pub(crate) fn question(&self) -> Option<&'static str> {
        let request = self.requests.front().filter(|request| !request.answered)?;
        Some(if request.editing { "new arguments as JSON, on one line: " } else { "[y]es / [n]o / [e]dit? " })
    }

    /// Nobody can be asked: refuse the request that waits.
    pub(crate) fn deny(&mut self, why: &str) -> Do {
        match self.requests.front_mut().filter(|request| !request.answered) {
            None => Do::Nothing,
            Some(request) => {
                request.answered = true;
                let approval_id = request.approval_id.clone();
                Do::Give(Command::Deny(Deny { command_id: None, approval_id, message: Some(why.into()) }))
            }
        }
    }

    /// What a line means now.
    pub(crate) fn line(&mut self, line: &str) -> Do {
        if let Some(request) = self.requests.front_mut().filter(|request| !request.answered) {
            return request.line(line.trim());
        }
        if line.trim().is_empty() {
            return Do::Nothing;
        }
        let content = line.to_owned();
        Do::Give(if self.is_settled() {
            Command::Send(Send { content, ..Send::default() })
        } else {
            Command::Steer(Steer { command_id: None, content, when: Default::default(), if_idle: Default::default() })
        })
    }

    /// What Ctrl-C means now.
    pub(crate) fn interrupt(&mut self) -> Do {
        if self.is_settled() || std::mem::replace(&mut self.interrupted, true) {
            return Do::Leave;
        }
        // Named, so that it cannot hit a run that begins in the meantime.
        Do::Give(Command::Cancel(Cancel { run_id: self.run.clone(), ..Cancel::default() }))
    }
}

impl Request {
    fn line(&mut self, line: &str) -> Do {
        let approval_id = self.approval_id.clone();
        let approve = |arguments| {
            Command::Approve(Approve { command_id: None, approval_id, arguments, scope: Default::default() })
        };
        if self.editing {
            self.editing = false;
            return match serde_json::from_str::<Value>(line) {
                Ok(arguments @ Value::Object(_)) => {
                    self.answered = true;
                    Do::Give(approve(Some(arguments)))
                }
                Ok(_) => Do::Again("arguments are a JSON object, for instance {\"city\": \"Oslo\"}".into()),
                Err(error) => Do::Again(format!("that is not JSON: {error}")),
            };
        }
        match line.to_lowercase().as_str() {
            "y" | "yes" => {
                self.answered = true;
                Do::Give(approve(None))
            }
            "n" | "no" => {
                self.answered = true;
                let approval_id = self.approval_id.clone();
                Do::Give(Command::Deny(Deny { command_id: None, approval_id, message: None }))
            }
            "e" | "edit" => {
                self.editing = true;
                Do::Again(String::new())
            }
            _ => Do::Again("answer y, n or e".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use steerage::command::CommandKind;

    use super::*;

    /// Takes in an event written as JSON.
    fn tell(talk: &mut Talk, event: Value) {
        let seq = talk.seen.next();
        let event: Event = serde_json::from_value(event).unwrap();
        talk.event(format!("k7q2mx.{}", seq.0).parse().unwrap(), Some(&event));
    }

    fn started(talk: &mut Talk) {
        tell(talk, json!({"type": "run.started", "run_id": "r1", "model": "m", "trigger": "send", "provider": "demo"}));
    }

    fn asks(talk: &mut Talk) {
        tell(
            talk,
            json!({"type": "approval.requested", "approval_id": "a1", "call_id": "c1", "name": "t", "arguments": {},
                   "digest": "", "expires_at": ""}),
        );
    }

    fn kind(it: &Do) -> Option<CommandKind> {
        match it {
            Do::Give(command) => Some(command.kind()),
            _ => None,
        }
    }

    #[test]
    fn a_line_sends_when_idle_and_steers_when_running() {
        let mut talk = Talk::default();
        assert_eq!(kind(&talk.line("hi")), Some(CommandKind::Send));
        assert_eq!(talk.line("  "), Do::Nothing);
        started(&mut talk);
        assert_eq!(kind(&talk.line("shorter")), Some(CommandKind::Steer));
        tell(&mut talk, json!({"type": "run.completed", "run_id": "r1", "finish_reason": "stop", "usage": null}));
        assert_eq!(kind(&talk.line("hi")), Some(CommandKind::Send));
    }

    #[test]
    fn it_is_settled_only_when_the_log_has_been_read_as_far_as_the_receipt() {
        let mut talk = Talk { under_way: 1, ..Talk::default() };
        assert!(!talk.is_settled());
        talk.under_way = 0;
        let receipt = |status| Receipt {
            command_id: "x".parse().unwrap(),
            kind: CommandKind::Send,
            status,
            seq: Seq(2),
            reason: None,
            message: None,
            replayed: false,
        };
        talk.receipt(&receipt(Status::Accepted));
        assert!(!talk.is_settled());
        talk.seen = Seq(2);
        assert!(!talk.is_settled(), "it waits for its boundary");
        tell(&mut talk, json!({"type": "command.applied", "command_id": "x", "kind": "send", "by": "", "digest": ""}));
        assert!(talk.is_settled());
    }

    #[test]
    fn ctrl_c_cancels_then_leaves() {
        let mut talk = Talk::default();
        assert_eq!(talk.interrupt(), Do::Leave);
        started(&mut talk);
        let Do::Give(Command::Cancel(cancel)) = talk.interrupt() else { panic!() };
        assert_eq!(cancel.run_id.unwrap().as_str(), "r1");
        assert_eq!(talk.interrupt(), Do::Leave);
        started(&mut talk);
        assert_eq!(kind(&talk.interrupt()), Some(CommandKind::Cancel), "a new run, a new first time");
    }

    #[test]
    fn an_approval_is_asked_until_it_is_answered_well() {
        let mut talk = Talk::default();
        started(&mut talk);
        asks(&mut talk);
        assert!(talk.question().unwrap().starts_with("[y]es"));
        assert!(matches!(talk.line("maybe"), Do::Again(_)));
        assert!(matches!(talk.line("e"), Do::Again(_)));
        assert!(talk.question().unwrap().contains("JSON"));
        assert!(matches!(talk.line("{oslo"), Do::Again(text) if text.contains("not JSON")));
        assert!(matches!(talk.line("e"), Do::Again(_)));
        assert!(matches!(talk.line("5"), Do::Again(text) if text.contains("object")));
        assert!(matches!(talk.line("E"), Do::Again(_)));
        let Do::Give(command) = talk.line(r#"{"city":5}"#) else { panic!() };
        assert!(talk.question().is_none());
        talk.refused(&command);
        assert!(talk.question().is_some(), "the server did not like the arguments");
        assert_eq!(kind(&talk.line(" N ")), Some(CommandKind::Deny));
        assert_eq!(kind(&talk.line("meanwhile")), Some(CommandKind::Steer));
        tell(&mut talk, json!({"type": "approval.resolved", "approval_id": "a1", "outcome": "denied", "by": ""}));
        assert!(talk.requests.is_empty());
    }
}
