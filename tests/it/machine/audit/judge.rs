//! What the model may be asked and which tools may run: the same model of the log, asked before the world obeys.

use steerage::{
    digest::digest,
    event::RecoveryMode,
    id::CallId,
    provider::{Message, Prompt},
    spec::Role,
    tool::ToolCall,
};

use super::{Audit, Got, Said};

impl Audit {
    /// The world is about to ask the model.
    pub(crate) fn judge_prompt(&mut self, prompt: &Prompt) {
        assert!(self.step.is_some(), "asked in an open step only");
        let mut told = prompt.messages.iter().peekable();
        let unfinished = self.unfinished.filter(|_| self.resumed.is_some());
        let mut continues = false;
        for (at, said) in self.said.iter().enumerate().filter(|(_, said)| !said.rolled_back) {
            if unfinished == Some(at) {
                continues = self.judge_unfinished(said, told.by_ref());
                continue;
            }
            let part_of_it = |id: &&CallId| {
                let call = &self.calls[*id];
                call.arguments.is_some() || call.ended_as_error
            };
            let due: Vec<_> = said.calls.iter().filter(part_of_it).collect();
            let message = match said.role {
                Role::Assistant if said.text.is_empty() && due.is_empty() => continue,
                _ => told.next().expect("nothing is left out"),
            };
            match (message, said.role) {
                (Message::System(text), Role::System) | (Message::User(text), Role::User) => {
                    assert_eq!(*text, said.text)
                }
                (Message::Assistant { text, calls, reasoning }, Role::Assistant) => {
                    assert_eq!(*text, said.text);
                    assert!(said.brought.as_ref().is_none_or(|brought| brought == reasoning), "what was thought");
                    assert_eq!(calls.iter().map(|call| &call.call_id).collect::<Vec<_>>(), due);
                    for call in calls {
                        let known = &self.calls[&call.call_id];
                        if let Some(used) = known.edited.as_ref().or(known.arguments.as_ref()) {
                            assert_eq!(*used, call.arguments, "the model sees what was used");
                        }
                    }
                }
                (message, role) => panic!("{message:?} for {role:?}"),
            }
            for due in due {
                let Some(Message::Tool { call_id, edited_arguments, outcome, .. }) = told.next() else {
                    panic!("{due} has an end")
                };
                assert_eq!((call_id, edited_arguments), (due, &self.calls[due].edited));
                assert!(self.calls[due].brought.as_ref().is_none_or(|brought| brought == outcome), "as it was brought");
            }
        }
        assert_eq!(told.next(), None, "what was taken back is not told");
        assert_eq!(prompt.continues, continues, "only an unfinished answer is gone on with");
    }

    /// The message of a step that lost its model call: left out, given to go on within, or quoted in a message after it.
    fn judge_unfinished<'a>(&self, said: &Said, mut told: impl Iterator<Item = &'a Message>) -> bool {
        assert!(said.calls.iter().all(|id| self.calls[id].arguments.is_none()), "a call that was cut is not known");
        let text = said.text.trim_end();
        if text.is_empty() {
            return false;
        }
        let Some(Message::Assistant { text: given, calls, .. }) = told.next() else { panic!("it is part of it") };
        assert_eq!((given.as_str(), calls.len()), (text, 0), "what was shown, less the white space at its end");
        if self.resumed == Some(RecoveryMode::Prefill) {
            return true;
        }
        assert_eq!(self.resumed, Some(RecoveryMode::Continue), "what was shown is not said again");
        let Some(Message::User(note)) = told.next() else { panic!("the model is told why it is asked") };
        let last: String = text.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
        assert!(note.contains(last.trim_start()), "{note}");
        false
    }

    /// The text of the message that the open step is writing.
    pub(crate) fn unfinished_text(&self) -> Option<&str> {
        self.unfinished.map(|at| self.said[at].text.as_str())
    }

    /// The world is about to run a tool.
    pub(crate) fn judge_tool(&mut self, name: &str, run: &ToolCall) {
        let tool = self.tool(name).expect("a known tool");
        let (needs, idempotent) = (tool.needs_approval(), tool.idempotent);
        let call = self.calls.get_mut(&run.call_id).expect("a call");
        assert_eq!((&call.got, call.name.as_str()), (&Got::Runs, name), "recorded before it runs");
        assert_eq!(run.attempt, call.started, "the attempt that was recorded");
        assert!(call.handed_over.insert(run.attempt), "at most once per record");
        assert!(call.handed_over.len() == 1 || idempotent, "at most once");
        let will_run = digest(name, &run.arguments);
        if needs {
            assert_eq!(call.approved_digest.as_ref(), Some(&will_run), "exactly what was approved runs");
        } else {
            assert_eq!(call.arguments.as_ref(), Some(&run.arguments));
        }
    }
}
