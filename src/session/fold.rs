//! A session as its log tells it: the pure fold of its events.
//!
//! The running session, a snapshot for a client and a recovery after a crash are this same fold, so they cannot
//! disagree.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::conversation::{CallState, Conversation, MessageStatus};
use crate::{
    command::{ApprovalScope, CommandKind, Receipt, Status, SteerWhen},
    env::Millis,
    event::{
        ApprovalOutcome, Block, Durability, Event, FailureCode, FinishReason, RecoveryMode, SessionLimit, Trigger,
        Usage,
    },
    id::{ApprovalId, CallId, CommandId, Epoch, EventId, RunId, Seq, SessionId},
    provider::Outcome,
    spec::SessionSpec,
};

/// Everything that the log says.
#[derive(Clone, Debug)]
pub struct Fold {
    /// The session's name.
    pub session_id: SessionId,
    /// What it was asked to be.
    pub spec: SessionSpec,
    /// What its store survives.
    pub durability: Durability,
    /// Each term's epoch with its first position.
    pub terms: Vec<(Epoch, Seq)>,
    /// The newest position.
    pub tail: Seq,
    /// Bytes of its frames, as far as they were weighed.
    pub bytes: u64,
    /// The limits that it has been warned of.
    pub near_limits: BTreeSet<SessionLimit>,
    /// When it was created.
    pub created_at: Millis,
    /// When something other than a delta last happened.
    pub updated_at: Millis,
    /// What was said, thought and called.
    pub conversation: Conversation,
    /// The running run.
    pub run: Option<Run>,
    /// How the run before ended.
    pub last_run: Option<EndedRun>,
    /// Commands that wait for their boundary, oldest first.
    pub pending: Vec<Pending>,
    /// The first receipt of every command.
    pub receipts: HashMap<CommandId, Answered>,
    /// Every approval request of the session.
    pub approvals: HashMap<ApprovalId, Approval>,
    /// Those that wait for their answer, oldest first.
    pub open_approvals: Vec<ApprovalId>,
    /// Tools that were approved for the rest of the session.
    pub allowed_tools: BTreeSet<String>,
    /// Tokens of all runs together.
    pub usage: Usage,
    /// Number of the newest block.
    pub last_block: Block,
    /// The text or reasoning block that grows.
    pub open_block: Option<(Block, BlockKind)>,
}

/// What grows in a block of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// The answer.
    Text,
    /// The thinking.
    Reasoning,
}

/// A generation that has not ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub run_id: RunId,
    /// What began it.
    pub trigger: Trigger,
    /// When it began.
    pub started_at: Millis,
    /// Position of its first event.
    pub first: Seq,
    /// The newest model call, from 1; 0 before the first.
    pub step: u32,
    /// The newest attempt at it, from 1.
    pub attempt: u32,
    /// Whether that model call has not ended.
    pub step_open: bool,
    /// Whether the newest one that ended, ended with an error.
    pub failed: bool,
    /// Attempts at the newest model call since the run was last recovered.
    pub tries: u32,
    /// How often it was recovered from the loss of its writer.
    pub recoveries: u32,
    /// How the newest model call goes on since its writer was lost, if it was.
    pub resumed: Option<RecoveryMode>,
    /// Whether part of an answer has been shown.
    pub partial: bool,
    /// Tokens so far, where the upstream said.
    pub usage: Option<Usage>,
    /// Index of the run's first message: the input that began it.
    pub first_message: usize,
}

/// How a run ended.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EndedRun {
    /// Its name.
    pub run_id: RunId,
    /// Position of its first event.
    #[serde(skip)]
    pub first: Seq,
    /// When it ended.
    #[serde(skip)]
    pub ended_at: Millis,
    /// `completed`, `cancelled` or `failed`.
    pub outcome: &'static str,
    /// Why the model stopped, of a completed run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
    /// Why it failed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where the newest run of a session is.
#[derive(Clone, Debug, PartialEq)]
pub struct NewestRun {
    /// Its name.
    pub run_id: RunId,
    /// Position of its first event.
    pub first: Seq,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<Millis>,
}

/// A command that waits for its boundary.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Pending {
    /// Its name.
    pub command_id: CommandId,
    /// A steer or a send.
    pub kind: CommandKind,
    /// Its boundary.
    pub when: SteerWhen,
    /// What it says.
    pub content: String,
    /// Who gave it.
    pub by: String,
    /// Its fingerprint.
    #[serde(skip)]
    pub digest: String,
}

/// What a command was answered first.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Fingerprint of the command.
    pub digest: String,
    /// The first answer.
    pub receipt: Receipt,
}

/// One approval request.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The call that waits.
    pub call_id: CallId,
    /// The tool.
    pub name: String,
    /// The model's arguments.
    pub arguments: Value,
    /// Fingerprint of tool and arguments.
    pub digest: String,
    /// When it times out.
    pub expires_at: Millis,
    /// Its answer, with the answer's position and giver.
    pub resolved: Option<(ApprovalOutcome, Seq, String)>,
}

impl Fold {
    /// The fold of a log's first event. `None` when it is not `session.created`.
    pub fn begin(id: EventId, at: Millis, event: &Event) -> Option<Self> {
        let Event::SessionCreated { session_id, durability, epoch, spec } = event else { return None };
        Some(Self {
            session_id: session_id.clone(),
            spec: (**spec).clone(),
            durability: *durability,
            terms: vec![(*epoch, id.seq)],
            tail: id.seq,
            bytes: 0,
            near_limits: BTreeSet::new(),
            created_at: at,
            updated_at: at,
            conversation: Conversation::default(),
            run: None,
            last_run: None,
            pending: Vec::new(),
            receipts: HashMap::new(),
            approvals: HashMap::new(),
            open_approvals: Vec::new(),
            allowed_tools: BTreeSet::new(),
            usage: Usage::default(),
            last_block: 0,
            open_block: None,
        })
    }

    /// The epoch in force.
    pub fn epoch(&self) -> Epoch {
        self.terms.last().expect("a session has a term").0
    }

    /// The cursor of the newest event. A term that has written nothing yet has no cursors.
    pub fn last_event_id(&self) -> EventId {
        let term = self.terms.iter().rev().find(|(_, first)| *first <= self.tail).expect("a session has a term");
        EventId { epoch: term.0, seq: self.tail }
    }

    /// Takes in the event that follows the tail.
    pub fn apply(&mut self, id: EventId, at: Millis, event: &Event) {
        assert_eq!(id.seq, self.tail.next(), "a log has no gaps");
        self.tail = id.seq;
        if id.epoch != self.epoch() {
            self.terms.push((id.epoch, id.seq));
        }
        if !event.is_delta() {
            self.updated_at = at;
        }
        self.apply_conversation(event);
        match event {
            Event::RunStarted { run_id, trigger, .. } => {
                self.run = Some(Run {
                    run_id: run_id.clone(),
                    trigger: *trigger,
                    started_at: at,
                    first: id.seq,
                    step: 0,
                    attempt: 0,
                    step_open: false,
                    failed: false,
                    tries: 0,
                    recoveries: 0,
                    resumed: None,
                    partial: false,
                    usage: None,
                    first_message: self.conversation.take_unanswered(),
                });
            }
            Event::StepStarted { step, attempt, .. } => {
                if let Some(run) = &mut self.run {
                    if *step != run.step {
                        (run.tries, run.resumed) = (0, None);
                    }
                    (run.step, run.attempt, run.step_open) = (*step, *attempt, true);
                    run.tries += 1;
                }
            }
            Event::RunRecovered { attempt, mode, .. } => {
                if let Some(run) = &mut self.run {
                    (run.recoveries, run.tries, run.resumed) = (*attempt, 0, Some(*mode));
                }
            }
            Event::SessionNearLimit { limit, .. } => {
                self.near_limits.insert(*limit);
            }
            Event::StepEnded { usage, finish_reason, .. } => {
                if let Some(run) = &mut self.run {
                    (run.step_open, run.failed) = (false, *finish_reason == FinishReason::Error);
                    if let Some(usage) = usage {
                        run.usage = Some(run.usage.unwrap_or_default().plus(*usage));
                        self.usage = self.usage.plus(*usage);
                    }
                }
            }
            Event::ApprovalRequested { approval_id, call_id, name, arguments, digest, expires_at, .. } => {
                let expires_at = crate::event::parse_rfc3339(expires_at).unwrap_or(at);
                self.open_approvals.push(approval_id.clone());
                self.approvals.insert(
                    approval_id.clone(),
                    Approval {
                        call_id: call_id.clone(),
                        name: name.clone(),
                        arguments: arguments.clone(),
                        digest: digest.clone(),
                        expires_at,
                        resolved: None,
                    },
                );
            }
            Event::ApprovalResolved { approval_id, outcome, scope, by, .. } => {
                self.open_approvals.retain(|open| open != approval_id);
                if let Some(approval) = self.approvals.get_mut(approval_id) {
                    approval.resolved = Some((*outcome, id.seq, by.clone()));
                    if *scope == Some(ApprovalScope::Session) {
                        self.allowed_tools.insert(approval.name.clone());
                    }
                }
            }
            Event::RunCompleted { finish_reason, .. } => {
                let finish_reason = Some(*finish_reason);
                self.end_run(MessageStatus::Complete, at, |run| EndedRun { finish_reason, ..run });
            }
            Event::RunCancelled { mode, .. } => {
                if *mode == crate::command::CancelMode::Rollback {
                    let first = self.run.as_ref().map_or(usize::MAX, |run| run.first_message);
                    self.conversation.roll_back(first);
                }
                self.end_run(MessageStatus::Cancelled, at, |run| EndedRun { outcome: "cancelled", ..run });
            }
            Event::RunFailed { code, message, .. } => {
                let (code, message) = (Some(*code), Some(message.clone()));
                self.end_run(MessageStatus::Failed, at, |run| EndedRun { outcome: "failed", code, message, ..run });
            }
            _ => self.apply_command(id.seq, event),
        }
    }

    /// Counts the bytes of frames that were written or read: a limit is about what is stored, which events do not know.
    pub fn weigh(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn end_run(&mut self, status: MessageStatus, at: Millis, as_it_did: impl FnOnce(EndedRun) -> EndedRun) {
        self.conversation.end_streaming(status);
        let Some(Run { run_id, first, .. }) = self.run.take() else { return };
        let (finish_reason, code, message) = (None, None, None);
        let ended = EndedRun { run_id, first, ended_at: at, outcome: "completed", finish_reason, code, message };
        self.last_run = Some(as_it_did(ended));
    }

    /// The running run, or else the last one.
    pub fn newest_run(&self) -> Option<NewestRun> {
        let running =
            self.run.as_ref().map(|run| NewestRun { run_id: run.run_id.clone(), first: run.first, ended_at: None });
        let ended = self.last_run.as_ref();
        let ended =
            ended.map(|run| NewestRun { run_id: run.run_id.clone(), first: run.first, ended_at: Some(run.ended_at) });
        running.or(ended)
    }

    fn apply_conversation(&mut self, event: &Event) {
        let run_id = || self.run.as_ref().map(|run| run.run_id.clone());
        let conversation = &mut self.conversation;
        match event {
            Event::HistoryRewound { message_ids, .. } => conversation.rewind(message_ids),
            Event::InputAdded { message_id, role, content, reasoning, calls, .. } => {
                // An unfinished answer that waited for another attempt, and was steered instead.
                conversation.end_streaming(MessageStatus::Steered);
                conversation.add_input(message_id.clone(), *role, content.clone(), run_id());
                conversation.add_brought(reasoning.as_deref(), calls);
            }
            Event::StepEnded { finish_reason: FinishReason::Steered, .. } => {
                conversation.end_streaming(MessageStatus::Steered);
            }
            Event::StepEnded { finish_reason: FinishReason::Error | FinishReason::Cancelled, .. } => {}
            Event::StepEnded { .. } => conversation.end_streaming(MessageStatus::Complete),
            Event::TextStarted { block, message_id } => {
                self.last_block = *block;
                self.open_block = Some((*block, BlockKind::Text));
                conversation.begin_text(message_id, run_id(), *block, false);
            }
            Event::ReasoningStarted { block, message_id } => {
                self.last_block = *block;
                self.open_block = Some((*block, BlockKind::Reasoning));
                conversation.begin_text(message_id, run_id(), *block, true);
            }
            Event::TextEnded { .. } | Event::ReasoningEnded { .. } => self.open_block = None,
            Event::TextDelta { block, text, .. } | Event::ReasoningDelta { block, text, .. } => {
                if let Some(run) = &mut self.run {
                    run.partial = true;
                }
                conversation.push_text(*block, text);
            }
            Event::ToolCallStarted { block, message_id, call_id, name } => {
                self.last_block = *block;
                conversation.begin_call(message_id, run_id(), *block, call_id.clone(), name.clone());
                if let Some(run) = &mut self.run {
                    run.partial = true;
                }
            }
            Event::ToolCallReady { call_id, arguments, .. } => conversation.with_call(call_id, |call| {
                call.arguments = Some(arguments.clone());
                call.state = CallState::Ready;
            }),
            Event::ApprovalRequested { call_id, approval_id, .. } => conversation.with_call(call_id, |call| {
                call.state = CallState::AwaitingApproval;
                call.approval_id = Some(approval_id.clone());
            }),
            Event::ApprovalResolved { approval_id, outcome, edited_arguments, .. } => {
                let Some(approval) = self.approvals.get(approval_id) else { return };
                conversation.with_call(&approval.call_id, |call| {
                    if *outcome == ApprovalOutcome::Approved {
                        call.state = CallState::Ready;
                        call.edited_arguments.clone_from(edited_arguments);
                    }
                });
            }
            Event::ToolStarted { call_id, attempt } => conversation.with_call(call_id, |call| {
                (call.state, call.attempts) = (CallState::Running, *attempt);
            }),
            Event::ToolCompleted { call_id, output } => conversation.with_call(call_id, |call| {
                call.state = CallState::Completed;
                call.outcome = Some(Outcome::Output(output.clone()));
            }),
            Event::ToolFailed { call_id, code, message } => conversation.with_call(call_id, |call| {
                call.state = CallState::Failed;
                call.outcome = Some(Outcome::Failed { code: *code, message: message.clone() });
            }),
            _ => {}
        }
    }

    fn apply_command(&mut self, seq: Seq, event: &Event) {
        let (command_id, kind, status, digest, reason, message) = match event {
            Event::CommandAccepted { command_id, kind, by, digest, content, when } => {
                self.pending.push(Pending {
                    command_id: command_id.clone(),
                    kind: *kind,
                    when: *when,
                    content: content.clone(),
                    by: by.clone(),
                    digest: digest.clone(),
                });
                (command_id, *kind, Status::Accepted, digest, None, None)
            }
            Event::CommandApplied { command_id, kind, digest, .. } => {
                (command_id, *kind, Status::Applied, digest, None, None)
            }
            Event::CommandRejected { command_id, kind, digest, reason, message, .. } => {
                (command_id, *kind, Status::Rejected, digest, Some(*reason), message.clone())
            }
            Event::CommandWithdrawn { command_id, .. } => {
                self.pending.retain(|pending| pending.command_id != *command_id);
                return;
            }
            _ => return,
        };
        if status == Status::Applied {
            self.pending.retain(|pending| pending.command_id != *command_id);
        }
        // Only the first answer is remembered: a repeated command gets exactly it.
        self.receipts.entry(command_id.clone()).or_insert_with(|| Answered {
            digest: digest.clone(),
            receipt: Receipt { command_id: command_id.clone(), kind, status, seq, reason, message, replayed: false },
        });
    }
}
