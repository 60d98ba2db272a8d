//! What becomes of tool calls: approvals, executions, results, and their ends.

use serde_json::Value;

use super::{
    conversation::{CallPart, CallState},
    state::{Effect, Out, State},
};
use crate::{
    command::ApprovalScope,
    digest::digest,
    env::Millis,
    event::{ApprovalOutcome, Event, FinishReason, ToolFailure},
    id::{ApprovalId, CallId},
    spec::{Executor, ToolSpec},
    tool::ToolCall,
};

/// Who answers for a tool that was approved for the whole session.
const BY_SESSION_SCOPE: &str = "session_scope";
/// Who answers when nobody did.
const BY_SERVER: &str = "server";

impl State {
    /// A call ends without output.
    pub(super) fn fail_call(&mut self, call_id: CallId, code: ToolFailure, message: &str, now: Millis, out: &mut Out) {
        self.emit(Event::ToolFailed { call_id, code, message: message.to_owned() }, now, out);
    }

    pub(super) fn tool(&self, name: &str) -> Option<ToolSpec> {
        self.fold.spec.tools.iter().find(|tool| tool.name == name).cloned()
    }

    /// The answer is whole: each of its calls is asked for, started, or left to the client.
    pub(super) fn dispatch_calls(&mut self, now: Millis, out: &mut Out) {
        let ready = |call: &&CallPart| call.state == CallState::Ready;
        let calls: Vec<CallPart> = self.fold.conversation.newest_calls().filter(ready).cloned().collect();
        for call in calls {
            let arguments = call.arguments.unwrap_or_default();
            let Some(tool) = self.tool(&call.name) else {
                self.fail_call(call.call_id, ToolFailure::Error, "there is no tool of that name", now, out);
                continue;
            };
            if tool.executor != Executor::Client
                && let Err(place) = tool.check_arguments(&arguments)
            {
                let message = format!("the arguments do not fit the schema: {place}");
                self.fail_call(call.call_id, ToolFailure::Error, &message, now, out);
                continue;
            }
            if !tool.needs_approval() {
                self.start_call(&call.call_id, &tool, &arguments, 1, now, out);
                continue;
            }
            let allowed = self.fold.allowed_tools.contains(&tool.name);
            let approval_id = self.request_approval(&call.call_id, &tool, &arguments, allowed, now, out);
            if allowed {
                let approved = Event::ApprovalResolved {
                    approval_id,
                    outcome: ApprovalOutcome::Approved,
                    edited_arguments: None,
                    digest: Some(digest(&tool.name, &arguments)),
                    scope: None,
                    message: None,
                    by: BY_SESSION_SCOPE.into(),
                };
                self.emit(approved, now, out);
                self.start_call(&call.call_id, &tool, &arguments, 1, now, out);
            }
        }
        self.go_on(now, out);
    }

    fn request_approval(
        &mut self,
        call_id: &CallId,
        tool: &ToolSpec,
        arguments: &Value,
        allowed: bool,
        now: Millis,
        out: &mut Out,
    ) -> ApprovalId {
        let approval_id: ApprovalId = self.name("apr");
        let wait_s = tool.approval_timeout_s.unwrap_or(self.limits.approval_timeout_s);
        let requested = Event::ApprovalRequested {
            approval_id: approval_id.clone(),
            call_id: call_id.clone(),
            name: tool.name.clone(),
            arguments: arguments.clone(),
            digest: digest(&tool.name, arguments),
            expires_at: now.after_seconds(wait_s).rfc3339().to_string(),
            allowed,
        };
        self.emit(requested, now, out);
        approval_id
    }

    pub(super) fn start_call(
        &mut self,
        call_id: &CallId,
        tool: &ToolSpec,
        arguments: &Value,
        attempt: u32,
        now: Millis,
        out: &mut Out,
    ) {
        if tool.ends_run {
            return;
        }
        self.tool_ends_at.push((call_id.clone(), now.after_seconds(tool.timeout_s())));
        if tool.executor == Executor::Client {
            return;
        }
        self.emit(Event::ToolStarted { call_id: call_id.clone(), attempt }, now, out);
        let call = ToolCall { call_id: call_id.clone(), attempt, arguments: arguments.clone() };
        out.effects.push(Effect::StartTool { name: tool.name.clone(), call });
    }

    /// Answers an approval with yes. `by` has been checked to be allowed to.
    pub(super) fn approve(
        &mut self,
        approval_id: &ApprovalId,
        edited: Option<Value>,
        scope: ApprovalScope,
        by: String,
        now: Millis,
        out: &mut Out,
    ) {
        let approval = &self.fold.approvals[approval_id];
        let (call_id, name) = (approval.call_id.clone(), approval.name.clone());
        let arguments = edited.clone().unwrap_or_else(|| approval.arguments.clone());
        let approved = digest(&name, &arguments);
        let resolved = Event::ApprovalResolved {
            approval_id: approval_id.clone(),
            outcome: ApprovalOutcome::Approved,
            edited_arguments: edited,
            digest: Some(approved.clone()),
            scope: Some(scope),
            message: None,
            by,
        };
        self.emit(resolved, now, out);
        let Some(tool) = self.tool(&name) else { return };
        // What runs is what the conversation holds, and that must be what was approved.
        let held = self.fold.conversation.call(&call_id).and_then(CallPart::effective_arguments).cloned();
        assert_eq!(
            held.as_ref().map(|held| digest(&name, held)),
            Some(approved),
            "approved one thing, would run another"
        );
        self.start_call(&call_id, &tool, &arguments, 1, now, out);
    }

    /// Answers an approval with no, of whatever kind, and ends its call.
    pub(super) fn refuse(
        &mut self,
        approval_id: ApprovalId,
        outcome: ApprovalOutcome,
        message: Option<String>,
        by: String,
        now: Millis,
        out: &mut Out,
    ) {
        let call_id = self.fold.approvals[&approval_id].call_id.clone();
        let said = message.clone().unwrap_or_default();
        let (edited_arguments, digest, scope) = (None, None, None);
        let resolved = Event::ApprovalResolved { approval_id, outcome, edited_arguments, digest, scope, message, by };
        self.emit(resolved, now, out);
        let (code, said) = match outcome {
            ApprovalOutcome::TimedOut => (ToolFailure::ApprovalTimedOut, "nobody answered in time"),
            ApprovalOutcome::Cancelled => (ToolFailure::Interrupted, "the run ended first"),
            ApprovalOutcome::Superseded => (ToolFailure::Interrupted, "a later message took its place"),
            ApprovalOutcome::Denied | ApprovalOutcome::Approved => (ToolFailure::DeniedByUser, said.as_str()),
        };
        self.fail_call(call_id, code, said, now, out);
    }

    /// A tool of the server, or of a client, has ended.
    pub(super) fn end_call(&mut self, call_id: CallId, result: Result<Value, String>, now: Millis, out: &mut Out) {
        self.tool_ends_at.retain(|(id, _)| *id != call_id);
        match result {
            Ok(output) => self.emit(Event::ToolCompleted { call_id, output }, now, out),
            Err(message) => self.fail_call(call_id, ToolFailure::Error, &message, now, out),
        }
    }

    pub(super) fn tool_done(&mut self, call_id: CallId, result: Result<Value, String>, now: Millis, out: &mut Out) {
        let running = |call: &CallPart| call.state == CallState::Running;
        if self.fold.conversation.call(&call_id).is_some_and(running) {
            self.end_call(call_id, result, now, out);
            self.go_on(now, out);
        }
    }

    /// Between two model calls: when every call of the answer has its end, the next model call begins. When only such
    /// calls have none as end the run, it is over.
    pub(super) fn go_on(&mut self, now: Millis, out: &mut Out) {
        if self.fold.run.is_none() || self.answer.is_some() {
            return;
        }
        let unended = self.fold.conversation.newest_calls().filter(|call| call.outcome.is_none());
        let (mut any, mut all_end_run) = (false, true);
        for call in unended {
            any = true;
            all_end_run &= call.state == CallState::Ready && self.fold.ends_run(&call.name);
        }
        if !any {
            self.say_steers(now, out);
            self.start_step(now, out);
        } else if all_end_run {
            self.complete(FinishReason::ToolCalls, None, now, out);
        }
    }

    /// The calls that the run before ended with get no results: something else is said, and before it whatever steers
    /// waited for the results.
    pub(super) fn abandon_calls(&mut self, now: Millis, out: &mut Out) {
        if self.fold.hands_over() {
            self.close_calls_with("a later message came instead of its result", now, out);
        }
    }

    /// Ends what has waited too long.
    pub(super) fn expire_calls(&mut self, now: Millis, out: &mut Out) {
        let due = |id: &&ApprovalId| self.fold.approvals[*id].expires_at <= now;
        let unanswered: Vec<_> = self.fold.open_approvals.iter().filter(due).cloned().collect();
        let late = self.tool_ends_at.iter().filter(|(_, at)| *at <= now);
        let late: Vec<_> = late.map(|(call_id, _)| call_id.clone()).collect();
        if unanswered.is_empty() && late.is_empty() {
            return;
        }
        for approval_id in unanswered {
            self.refuse(approval_id, ApprovalOutcome::TimedOut, None, BY_SERVER.into(), now, out);
        }
        for call_id in late {
            self.tool_ends_at.retain(|(id, _)| *id != call_id);
            out.effects.push(Effect::StopTool(call_id.clone()));
            self.fail_call(call_id, ToolFailure::OutcomeUnknown, "no result in time", now, out);
        }
        self.go_on(now, out);
    }

    /// Closes every call of a run that ends, each with its own true reason, and its approvals with this one.
    pub(super) fn close_calls(&mut self, approvals: ApprovalOutcome, now: Millis, out: &mut Out) {
        let open: Vec<_> = self.fold.open_approvals.clone();
        for approval_id in open {
            self.refuse(approval_id, approvals, None, BY_SERVER.into(), now, out);
        }
        self.close_calls_with("the run ended first", now, out);
    }

    fn close_calls_with(&mut self, reason: &str, now: Millis, out: &mut Out) {
        let unended = |call: &&CallPart| call.outcome.is_none();
        let calls: Vec<CallPart> = self.fold.conversation.newest_calls().filter(unended).cloned().collect();
        for call in calls {
            match call.state {
                CallState::Running => {
                    out.effects.push(Effect::StopTool(call.call_id.clone()));
                    let message = "started, and stopped before its end was seen";
                    self.fail_call(call.call_id, ToolFailure::OutcomeUnknown, message, now, out);
                }
                _ => self.fail_call(call.call_id, ToolFailure::Interrupted, reason, now, out),
            }
        }
    }
}
