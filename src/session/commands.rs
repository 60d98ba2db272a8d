//! What clients want of a session.
//!
//! Every command gets exactly one first answer, recorded in the log before it is given, and repeated for ever after.

use serde_json::{Map, Value};

use super::{
    conversation::CallState,
    fold::{Approval, Pending},
    state::{Effect, Out, Reply, State, Ticket},
};
use crate::{
    command::{
        Approve, Cancel, Command, CommandKind, Deny, IfIdle, IfRunning, Reason, Receipt, Regenerate, Status, SteerWhen,
        ToolResult, Withdraw,
    },
    env::Millis,
    event::{ApprovalOutcome, Event, FinishReason, Trigger, WithdrawReason},
    id::{ApprovalId, CommandId},
    spec::{Executor, Role},
};

/// A command on its way through the machine.
struct Asked {
    id: CommandId,
    kind: CommandKind,
    by: String,
    digest: String,
}

/// Why a command has no effect, with more words where they help, and its text where it should come back.
struct No {
    reason: Reason,
    message: Option<String>,
    content: Option<String>,
}

impl From<Reason> for No {
    fn from(reason: Reason) -> Self {
        Self { reason, message: None, content: None }
    }
}

/// What a handler decided: recorded already, refused, or answered as the same command was before.
type Decision = Result<(), Refused>;

enum Refused {
    No(No),
    /// The same answer was given before, and got this receipt.
    SameAgain(Receipt),
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self::No(reason.into())
    }
}

impl Pending {
    /// Whether it speaks to the run that is running, and comes back when that ends.
    pub(super) fn is_steer(&self) -> bool {
        self.kind == CommandKind::Steer || self.when != SteerWhen::NextRun
    }
}

impl State {
    pub(super) fn command(&mut self, command: Command, by: String, ticket: Ticket, now: Millis, out: &mut Out) {
        let digest = command.digest();
        let minted = || self.name_but("cmd", |id| self.fold.receipts.contains_key(id));
        let id = command.command_id().cloned().unwrap_or_else(minted);
        if let Some(first) = self.fold.receipts.get(&id) {
            let mut receipt = first.receipt.clone();
            let reply = if first.digest == digest {
                receipt.replayed = true;
                Reply::Receipt(receipt)
            } else {
                Reply::Conflict(receipt)
            };
            return out.effects.push(Effect::Reply(ticket, reply));
        }
        // A cancel always has room: Stop must work in a session that is full.
        let is_cancel = matches!(command, Command::Cancel(_)) && self.fold.run.is_some();
        if self.fold.receipts.len() >= self.limits.receipts_max && !is_cancel {
            return out.effects.push(Effect::Reply(ticket, Reply::Full("commands")));
        }
        if let (Some((limit, _)), false) = (self.full(), is_cancel) {
            return out.effects.push(Effect::Reply(ticket, Reply::Full(limit)));
        }
        let asked = Asked { id: id.clone(), kind: command.kind(), by, digest };
        let decision = match command {
            Command::Cancel(cancel) => self.on_cancel(&asked, cancel, now, out),
            Command::Steer(steer) => {
                self.on_steer(&asked, steer.content, steer.when, steer.if_idle == IfIdle::Start, now, out)
            }
            Command::Send(send) => self.on_send(&asked, send, now, out),
            Command::Regenerate(regenerate) => self.on_regenerate(&asked, &regenerate, now, out),
            Command::Approve(approve) => self.on_approve(&asked, approve, now, out),
            Command::Deny(deny) => self.on_deny(&asked, deny, now, out),
            Command::ToolResult(result) => self.on_tool_result(&asked, result, now, out),
            Command::Withdraw(withdraw) => self.on_withdraw(&asked, withdraw, now, out),
        };
        let receipt = match decision {
            Ok(()) => self.fold.receipts[&id].receipt.clone(),
            Err(Refused::No(No { reason, message, content })) => {
                let Asked { id: command_id, kind, by, digest } = asked;
                let rejected = Event::CommandRejected { command_id, kind, by, digest, reason, message, content };
                self.emit(rejected, now, out);
                self.fold.receipts[&id].receipt.clone()
            }
            Err(Refused::SameAgain(first)) => Receipt { replayed: true, ..first },
        };
        out.effects.push(Effect::Reply(ticket, Reply::Receipt(receipt)));
    }

    fn apply(&mut self, asked: &Asked, now: Millis, out: &mut Out) {
        self.applied(asked.id.clone(), asked.kind, asked.by.clone(), asked.digest.clone(), now, out);
    }

    /// Records that a command has had its effect, in the run and step of this moment.
    pub(super) fn applied(
        &mut self,
        command_id: CommandId,
        kind: CommandKind,
        by: String,
        digest: String,
        now: Millis,
        out: &mut Out,
    ) {
        let run = self.fold.run.as_ref();
        let (run_id, step) = (run.map(|run| run.run_id.clone()), run.map(|run| run.step).filter(|step| *step > 0));
        self.emit(Event::CommandApplied { command_id, kind, by, digest, run_id, step }, now, out);
    }

    /// At the boundary of a model call: the steers that waited for it are said, in order. Tells whether there were any.
    pub(super) fn say_steers(&mut self, now: Millis, out: &mut Out) -> bool {
        let due = |pending: &&super::fold::Pending| pending.when != SteerWhen::NextRun;
        let due: Vec<_> = self.fold.pending.iter().filter(due).cloned().collect();
        let any = !due.is_empty();
        for steer in due {
            self.add_input(None, Role::User, steer.content, Some(steer.command_id.clone()), now, out);
            self.applied(steer.command_id, steer.kind, steer.by, steer.digest, now, out);
        }
        any
    }

    fn wait(&mut self, asked: &Asked, content: String, when: SteerWhen, now: Millis, out: &mut Out) -> Decision {
        if self.fold.pending.len() >= self.limits.pending_max {
            let message = Some(format!("at most {} commands wait at once", self.limits.pending_max));
            return Err(Refused::No(No { reason: Reason::TooManyPending, message, content: Some(content) }));
        }
        let (command_id, kind) = (asked.id.clone(), asked.kind);
        let (by, digest) = (asked.by.clone(), asked.digest.clone());
        self.emit(Event::CommandAccepted { command_id, kind, by, digest, content, when }, now, out);
        Ok(())
    }

    fn on_cancel(&mut self, asked: &Asked, cancel: Cancel, now: Millis, out: &mut Out) -> Decision {
        let Some(running) = self.run_id() else { return self.cancel_handed_over(asked, &cancel, now, out) };
        if cancel.run_id.is_some_and(|wanted| wanted != running) {
            let message = Some(format!("the running run is {running}"));
            return Err(Refused::No(No { reason: Reason::RunMismatch, message, content: None }));
        }
        let reason = cancel.reason.unwrap_or_else(|| "cancelled by a client".into());
        self.cancel_run(Some(asked.id.clone()), cancel.mode, reason, now, out);
        self.apply(asked, now, out);
        self.start_next(now, out);
        Ok(())
    }

    /// Nothing runs. Where the run before ended with calls, nobody waits for their results any longer, nor do steers.
    fn cancel_handed_over(&mut self, asked: &Asked, cancel: &Cancel, now: Millis, out: &mut Out) -> Decision {
        let last = self.fold.last_run.as_ref().map(|run| &run.run_id);
        if !self.fold.hands_over() || cancel.run_id.as_ref().is_some_and(|wanted| Some(wanted) != last) {
            return Err(Reason::NoActiveRun.into());
        }
        self.abandon_calls(now, out);
        self.return_steers(WithdrawReason::RunCancelled, now, out);
        self.apply(asked, now, out);
        self.start_next(now, out);
        Ok(())
    }

    fn on_steer(
        &mut self,
        asked: &Asked,
        content: String,
        when: SteerWhen,
        start: bool,
        now: Millis,
        out: &mut Out,
    ) -> Decision {
        if self.fold.run.is_none() {
            if self.fold.hands_over() && when != SteerWhen::NextRun {
                // What it would start waits for the results of tools: it is said after them.
                return self.wait(asked, content, when, now, out);
            }
            if !start {
                return Err(Refused::No(No { content: Some(content), ..Reason::NoActiveRun.into() }));
            }
            self.abandon_calls(now, out);
            self.say_steers(now, out);
            self.add_input(None, Role::User, content, Some(asked.id.clone()), now, out);
            self.begin_run(asked, Trigger::Steer, Map::new(), now, out);
            return Ok(());
        }
        if when != SteerWhen::Now || !self.upstream_open() {
            // Between two model calls there is nothing to cut: tools and approvals go on, and it is said after them.
            return self.wait(asked, content, when, now, out);
        }
        self.cut_step(FinishReason::Steered, now, out);
        self.say_steers(now, out);
        self.add_input(None, Role::User, content, Some(asked.id.clone()), now, out);
        self.apply(asked, now, out);
        self.start_step(now, out);
        Ok(())
    }

    fn begin_run(&mut self, asked: &Asked, trigger: Trigger, metadata: Map<String, Value>, now: Millis, out: &mut Out) {
        self.start_run(trigger, metadata, now, out);
        self.apply(asked, now, out);
        self.start_step(now, out);
    }

    fn on_send(&mut self, asked: &Asked, send: crate::command::Send, now: Millis, out: &mut Out) -> Decision {
        match send.if_running {
            _ if self.fold.run.is_none() => self.say_next(asked, send, now, out),
            IfRunning::Queue => self.wait(asked, send.content, SteerWhen::NextRun, now, out),
            IfRunning::Steer => self.on_steer(asked, send.content, SteerWhen::Now, true, now, out),
            IfRunning::Reject => Err(Refused::No(No { content: Some(send.content), ..Reason::RunActive.into() })),
            IfRunning::Cancel => self.say_next(asked, send, now, out),
        }
    }

    /// It is said, in the place of what runs if something does.
    fn say_next(&mut self, asked: &Asked, send: crate::command::Send, now: Millis, out: &mut Out) -> Decision {
        let revision = match self.revision_of_send(&send) {
            Ok(revision) => revision,
            Err(reason) => return Err(Refused::No(No { content: Some(send.content), ..reason.into() })),
        };
        self.supersede_run(&asked.id, "a send took its place", now, out);
        self.abandon_calls(now, out);
        self.revise(revision, &asked.id, now, out);
        self.say_steers(now, out);
        let message_id = send.message_id.or(send.replaces);
        self.add_input(message_id, Role::User, send.content, Some(asked.id.clone()), now, out);
        self.begin_run(asked, Trigger::Send, send.metadata, now, out);
        Ok(())
    }

    fn on_regenerate(&mut self, asked: &Asked, regenerate: &Regenerate, now: Millis, out: &mut Out) -> Decision {
        let revision = self.revision_of_regenerate(regenerate)?;
        self.supersede_run(&asked.id, "its answer is given again", now, out);
        self.abandon_calls(now, out);
        self.revise(revision, &asked.id, now, out);
        self.say_steers(now, out);
        self.begin_run(asked, Trigger::Regenerate, Map::new(), now, out);
        Ok(())
    }

    /// The open approval of that id, or why there is none. An answer that was given before counts as given again.
    fn open_approval(&self, id: &ApprovalId, digest: &str) -> Result<&Approval, Refused> {
        let Some(approval) = self.fold.approvals.get(id) else { return Err(Reason::UnknownApproval.into()) };
        match &approval.resolved {
            None => Ok(approval),
            Some((outcome, seq, by)) => {
                let outcome_name = serde_json::to_value(outcome).unwrap_or_default();
                let message =
                    Some(format!("resolved as {} by {by} at {seq}", outcome_name.as_str().unwrap_or_default()));
                let reason = match outcome {
                    ApprovalOutcome::Approved | ApprovalOutcome::Denied => Reason::AlreadyResolved,
                    ApprovalOutcome::TimedOut | ApprovalOutcome::Cancelled | ApprovalOutcome::Superseded => {
                        Reason::Stale
                    }
                };
                let same = self.applied_before(digest).filter(|_| reason == Reason::AlreadyResolved);
                Err(same.map_or(Refused::No(No { reason, message, content: None }), Refused::SameAgain))
            }
        }
    }

    /// The receipt of the same command under another id, if one had its effect.
    fn applied_before(&self, digest: &str) -> Option<Receipt> {
        let same = |a: &&super::fold::Answered| a.digest == digest && a.receipt.status == Status::Applied;
        self.fold.receipts.values().find(same).map(|a| a.receipt.clone())
    }

    fn on_approve(&mut self, asked: &Asked, approve: Approve, now: Millis, out: &mut Out) -> Decision {
        let name = &self.open_approval(&approve.approval_id, &asked.digest)?.name;
        if let Some(arguments) = &approve.arguments
            && let Some(tool) = self.fold.spec.tools.iter().find(|tool| tool.name == *name)
            && let Err(place) = tool.check_arguments(arguments)
        {
            let message = Some(format!("the edited arguments do not fit the tool's schema: {place}"));
            return Err(Refused::No(No { reason: Reason::InvalidArguments, message, content: None }));
        }
        self.approve(&approve.approval_id, approve.arguments, approve.scope, asked.by.clone(), now, out);
        self.apply(asked, now, out);
        // Only what ends a run is left, perhaps.
        self.go_on(now, out);
        Ok(())
    }

    fn on_deny(&mut self, asked: &Asked, deny: Deny, now: Millis, out: &mut Out) -> Decision {
        self.open_approval(&deny.approval_id, &asked.digest)?;
        let by = asked.by.clone();
        self.refuse(deny.approval_id, ApprovalOutcome::Denied, deny.message, by, now, out);
        self.apply(asked, now, out);
        self.go_on(now, out);
        Ok(())
    }

    fn on_tool_result(&mut self, asked: &Asked, result: ToolResult, now: Millis, out: &mut Out) -> Decision {
        let Some(call) = self.fold.conversation.call(&result.call_id) else { return Err(Reason::UnknownCall.into()) };
        if self.fold.executor_of(&call.name) != Some(Executor::Client) {
            return Err(Reason::NotAClientTool.into());
        }
        match call.state {
            CallState::Ready => {}
            // Its arguments are not whole, so nobody can have run it.
            CallState::Streaming => return Err(Reason::UnknownCall.into()),
            CallState::AwaitingApproval => return Err(Reason::ApprovalPending.into()),
            ended => {
                let reason = if ended == CallState::Completed { Reason::AlreadyResolved } else { Reason::Stale };
                return Err(self.applied_before(&asked.digest).map_or(reason.into(), Refused::SameAgain));
            }
        }
        let given = match (result.output, result.error) {
            (Some(output), _) => Ok(output),
            (None, error) => Err(error.unwrap_or_default()),
        };
        self.end_call(result.call_id, given, now, out);
        if self.fold.run.is_some() {
            self.apply(asked, now, out);
            self.go_on(now, out);
        } else if self.fold.hands_over() {
            self.apply(asked, now, out);
        } else {
            // The run before ended with these calls, and this was the last one without its result.
            self.start_run(Trigger::ToolResult, result.metadata, now, out);
            self.apply(asked, now, out);
            self.say_steers(now, out);
            self.start_step(now, out);
        }
        Ok(())
    }

    fn on_withdraw(&mut self, asked: &Asked, withdraw: Withdraw, now: Millis, out: &mut Out) -> Decision {
        let Some(target) = self.fold.pending.iter().find(|pending| pending.command_id == withdraw.target).cloned()
        else {
            let known = self.fold.receipts.contains_key(&withdraw.target);
            return Err(if known { Reason::AlreadyApplied } else { Reason::UnknownTarget }.into());
        };
        let (command_id, kind, content) = (target.command_id, target.kind, target.content);
        let reason = WithdrawReason::Withdrawn;
        self.emit(Event::CommandWithdrawn { command_id, kind, reason, content }, now, out);
        self.apply(asked, now, out);
        Ok(())
    }
}
