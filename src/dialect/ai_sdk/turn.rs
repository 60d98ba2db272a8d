//! One UI message: the fold of one run's frames.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Chunks, Options, Version,
    calls::{Answered, Call, CallState, Calls, Yes},
    chunk::{Chunk, Finish, Steering, SteeringPart},
    shown::Shown,
};
use crate::{
    event::{
        ApprovalOutcome, Block, ToolFailure,
        fields::{self, Delta, Piece},
    },
    frame::Frame,
    id::{CallId, RunId},
};

/// One UI message: the fold of one run's frames.
#[derive(Debug)]
pub struct Turn {
    options: Options,
    run: Option<RunId>,
    over: bool,
    /// Whether a model call is open.
    calling: bool,
    shown: Shown,
    calls: Calls,
}

impl Turn {
    /// Before its run has started.
    pub fn new(options: Options) -> Self {
        Self { options, run: None, over: false, calling: false, shown: Shown::default(), calls: Calls::default() }
    }

    /// Takes the next frame in. `session.created` may come first: it tells which tools are the client's, and without it no
    /// call waits for the client's result. What else comes before `run.started`, or after the end of the run, shows nothing.
    pub fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        if self.run.is_none() {
            return self.push_before(frame, chunks);
        }
        if self.over {
            return Ok(());
        }
        if let Some(delta) = Delta::of(frame.body()) {
            self.delta(&delta, chunks);
            return Ok(());
        }
        let (kind, json) = (frame.kind(), frame.json());
        self.event(kind, &json, chunks)?;
        // The SDK ends a response where it waits, and there with its step.
        if self.waits() {
            self.shown.finish_step(chunks);
        }
        Ok(())
    }

    /// `start` again: the beginning of a response that continues the message. Its reader knows the parts and the calls of
    /// the message, and that none of its texts is open.
    pub fn restart(&mut self, chunks: &mut Chunks) {
        self.shown.restart();
        self.start(chunks);
    }

    /// The reader of this response takes these calls for ended: a client may run its tool before a person has allowed it.
    /// Those that are still asked about where the response pauses are told again there. Else the client would see nothing
    /// left to wait for, and would send the same again, for ever.
    pub fn restate<'a>(&mut self, call_ids: impl IntoIterator<Item = &'a str>) {
        call_ids.into_iter().for_each(|call_id| self.calls.end_early(call_id));
    }

    /// Whether no model call is open, and every open tool call waits for a person's answer or for the client's result.
    pub fn waits(&self) -> bool {
        !self.over && !self.calling && self.calls.all_wait()
    }

    /// The calls that wait so, when [`Self::waits`].
    pub fn waiting(&self) -> impl Iterator<Item = &CallId> {
        self.calls.waiting().filter(|_| self.waits())
    }

    /// The calls that wait for a person or for the client, whatever else goes on.
    pub fn awaited(&self) -> impl Iterator<Item = &CallId> {
        self.calls.waiting()
    }

    /// Those of them that wait for a result of the client's.
    pub fn handed_over(&self) -> impl Iterator<Item = &CallId> {
        self.calls.handed_over()
    }

    /// `finish`, where the response ends and the run goes on only after the client has answered.
    pub fn pause(&mut self, chunks: &mut Chunks) {
        self.shown.finish_step(chunks);
        for (call, approval_id, arguments) in self.calls.take_early() {
            let tool_call_id = call.call_id.as_str();
            if self.options.version >= Version::V6 {
                chunks.push(&Chunk::ToolApprovalRequest { approval_id: approval_id.as_str(), tool_call_id });
                continue;
            }
            // It goes back to where its input came. With `tool-input-available` the client would run its tool again.
            chunks.push(&Chunk::ToolInputStart { tool_call_id, tool_name: &call.name });
            let literal = serde_json::to_string(arguments.get()).expect("a text is JSON");
            chunks.push_delta(Piece::Arguments, &call.quoted, &literal);
        }
        chunks.push(&Chunk::Finish { finish_reason: Finish::ToolCalls });
    }

    /// The run cannot be followed to its end, for this reason. After an error no client sends by itself.
    pub fn fail(&mut self, reason: &str, chunks: &mut Chunks) -> serde_json::Result<()> {
        self.close(chunks)?;
        chunks.push(&Chunk::Error { error_text: reason });
        chunks.push(&Chunk::Finish { finish_reason: Finish::Error });
        Ok(())
    }

    /// Whether the run has ended, and `finish` was given.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The run's name, which is the message's.
    pub fn run_id(&self) -> Option<&RunId> {
        self.run.as_ref()
    }

    fn push_before(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        match frame.kind() {
            "session.created" => self.calls.declare(&read::<fields::Created>(&frame.json())?.tools),
            "run.started" => {
                let json = frame.json();
                self.run = Some(read::<fields::Started>(&json)?.run_id);
                self.start(chunks);
                chunks.push_native(text(&json)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&self, chunks: &mut Chunks) {
        if let Some(run_id) = &self.run {
            chunks.push(&Chunk::Start { message_id: run_id.as_str() });
        }
    }

    /// An event of the run that is no delta, or a delta that is not written as ours are.
    fn event(&mut self, kind: &str, json: &[u8], chunks: &mut Chunks) -> serde_json::Result<()> {
        let told_first = matches!(kind, "run.completed" | "run.cancelled" | "run.failed");
        if told_first {
            chunks.push_native(text(json)?);
        }
        match kind {
            "text.delta" => self.delta(&Delta::decode(Piece::Text, json)?, chunks),
            "reasoning.delta" => self.delta(&Delta::decode(Piece::Reasoning, json)?, chunks),
            "tool_call.delta" => self.delta(&Delta::decode(Piece::Arguments, json)?, chunks),
            "text.started" => self.shown.begin(Piece::Text, block(json)?, chunks),
            "reasoning.started" => self.shown.begin(Piece::Reasoning, block(json)?, chunks),
            "text.ended" => self.shown.end(Piece::Text, block(json)?, chunks),
            "reasoning.ended" => self.shown.end(Piece::Reasoning, block(json)?, chunks),
            "step.started" => {
                self.calling = true;
                self.shown.start_step(read::<fields::Step>(json)?.step, chunks);
            }
            "step.ended" => self.calling = false,
            "input.added" => self.steered(&read(json)?, chunks),
            "tool_call.started" => self.begin_call(&read(json)?, chunks),
            "tool_call.ready" => self.ready_call(&read(json)?, chunks),
            "approval.requested" => self.ask(&read(json)?, chunks),
            "approval.resolved" => self.answered(&read(json)?, chunks),
            "tool.started" => {
                if let Some(call) = self.calls.get(&read::<fields::Begun>(json)?.call_id) {
                    call.state = CallState::Busy;
                }
            }
            "tool.completed" => self.complete_call(&read(json)?, chunks),
            "tool.failed" => {
                let fields::Failed { call_id, code, message } = read(json)?;
                if let Some(call) = self.calls.end(&call_id) {
                    self.fail_call(&call, code, &message, chunks)?;
                }
            }
            "run.completed" => {
                let finish_reason = read::<fields::RunCompleted>(json)?.finish_reason.into();
                self.close(chunks)?;
                self.shown.leave_calls(chunks);
                chunks.push(&Chunk::Finish { finish_reason });
            }
            "run.cancelled" => {
                self.close(chunks)?;
                self.shown.leave_calls(chunks);
                chunks.push(&Chunk::Abort);
                chunks.push(&Chunk::Finish { finish_reason: Finish::Other });
            }
            "run.failed" => {
                let message = read::<fields::RunFailed>(json)?.message;
                self.fail(or(&message, "the run has failed"), chunks)?;
            }
            _ => {}
        }
        if !told_first && is_told(kind) {
            chunks.push_native(text(json)?);
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Delta<'_>, chunks: &mut Chunks) {
        let Delta { piece, block, literal } = *delta;
        if piece == Piece::Arguments {
            let Some(call) = self.calls.of_block(block) else { return };
            if let CallState::Writing(arguments) = &mut call.state {
                arguments.push_str(&literal[1..literal.len() - 1]);
                chunks.push_delta(piece, &call.quoted, literal);
            }
            return;
        }
        self.shown.delta(piece, block, literal, chunks);
    }

    /// Something was said to the model. It stands before the step that takes it in.
    fn steered(&mut self, input: &fields::Input<'_>, chunks: &mut Chunks) {
        self.shown.finish_unless_empty(chunks);
        let (id, content) = (&*input.message_id, input.content);
        chunks.push(&if self.options.steering_message {
            Chunk::SteeringMessage { id, parts: [SteeringPart::Text { text: content }] }
        } else {
            Chunk::DataSteering { id, data: Steering { message_id: id, content } }
        });
    }

    fn begin_call(&mut self, called: &fields::Called<'_>, chunks: &mut Chunks) {
        if self.calls.begin(called).is_some() {
            self.shown.show_call(chunks);
            chunks.push(&Chunk::ToolInputStart { tool_call_id: called.call_id.as_str(), tool_name: &called.name });
        }
    }

    fn ready_call(&mut self, called: &fields::Called<'_>, chunks: &mut Chunks) {
        self.begin_call(called, chunks);
        let (Some(call), Some(input)) = (self.calls.get(&called.call_id), called.arguments) else { return };
        call.state = CallState::Ready;
        chunks.push(&available(call, input));
    }

    fn ask(&mut self, requested: &fields::Requested<'_>, chunks: &mut Chunks) {
        if self.calls.ask(requested) && self.options.version >= Version::V6 {
            let (approval_id, tool_call_id) = (requested.approval_id.as_str(), requested.call_id.as_str());
            chunks.push(&Chunk::ToolApprovalRequest { approval_id, tool_call_id });
        }
    }

    /// A request has its answer. A client that is to run its own tool is told the call once more, with what was approved:
    /// else it would take it for answered and not yet sent, and would send it for ever. So is one of version 6 in any
    /// case, which knows no other way to see that the request is none any more.
    fn answered(&mut self, resolved: &fields::Resolved<'_>, chunks: &mut Chunks) {
        let approved = resolved.outcome == ApprovalOutcome::Approved;
        let yes = approved.then_some(Yes { edited: resolved.edited_arguments });
        let Some(Answered { call, input, is_news }) = self.calls.answer(&resolved.approval_id, yes) else { return };
        let version = self.options.version;
        if version >= Version::V7 && (approved || resolved.outcome == ApprovalOutcome::Denied) {
            let approval_id = resolved.approval_id.as_str();
            chunks.push(&Chunk::ToolApprovalResponse { approval_id, approved, reason: resolved.message.as_deref() });
        }
        if let Some(input) = input.filter(|_| is_news || version == Version::V6) {
            chunks.push(&available(call, &input));
        }
    }

    fn complete_call(&mut self, completed: &fields::Completed<'_>, chunks: &mut Chunks) {
        if let Some(call) = self.calls.end(&completed.call_id) {
            let tool_call_id = call.call_id.as_str();
            chunks.push(&Chunk::ToolOutputAvailable { tool_call_id, output: completed.output });
        }
    }

    /// A call ends without an output.
    fn fail_call(&self, call: &Call, code: ToolFailure, message: &str, chunks: &mut Chunks) -> serde_json::Result<()> {
        let (tool_call_id, tool_name) = (call.call_id.as_str(), call.name.as_str());
        let denied = code == ToolFailure::DeniedByUser;
        let error_text = or(message, if denied { "a person said no" } else { "the tool has failed" });
        match &call.state {
            CallState::Writing(arguments) => {
                let input = &*RawValue::from_string(format!("\"{arguments}\""))?;
                chunks.push(&Chunk::ToolInputError { tool_call_id, tool_name, input, error_text });
            }
            _ if denied && self.options.version >= Version::V6 => {
                chunks.push(&Chunk::ToolOutputDenied { tool_call_id })
            }
            _ => chunks.push(&Chunk::ToolOutputError { tool_call_id, error_text }),
        }
        Ok(())
    }

    /// The run is over. By then its log has closed everything; a message that lacked an end would stay as if it went on.
    fn close(&mut self, chunks: &mut Chunks) -> serde_json::Result<()> {
        for call in self.calls.take_open() {
            self.fail_call(&call, ToolFailure::Interrupted, "the run ended first", chunks)?;
        }
        self.shown.finish_step(chunks);
        self.over = true;
        Ok(())
    }
}

fn available<'a>(call: &'a Call, input: &'a RawValue) -> Chunk<'a> {
    Chunk::ToolInputAvailable { tool_call_id: call.call_id.as_str(), tool_name: &call.name, input }
}

/// Whether an event of this kind is also passed on as it is, besides the ends of a run: what happens in a run and has no
/// chunk that says all of it. Kinds of a later day are passed on by their family, or not at all.
fn is_told(kind: &str) -> bool {
    match kind {
        "run.recovered" | "step.ended" | "approval.requested" | "approval.resolved" | "tool.started"
        | "session.near_limit" => true,
        kind => kind.starts_with("command."),
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json)
}

fn block(json: &[u8]) -> serde_json::Result<Block> {
    Ok(read::<fields::Boundary>(json)?.block)
}

fn text(json: &[u8]) -> serde_json::Result<&str> {
    std::str::from_utf8(json).map_err(serde::de::Error::custom)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
