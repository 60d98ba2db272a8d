//! The responses of one run: the fold of its frames, turn by turn.

use super::{
    Chunks, ResponseId,
    calls::{CallState, Calls},
    item::Status,
    read::{self, place, read, seconds},
    settings::Settings,
    turn::{Ending, Failure, Turn},
};
use crate::{
    event::{
        ApprovalOutcome, FinishReason, ToolFailure,
        fields::{self, Delta, Piece},
    },
    frame::Frame,
    id::{ApprovalId, CallId, SessionId},
    spec::SessionSpec,
};

/// The responses of one run: the fold of its frames, turn by turn.
///
/// A turn ends with the run; where something is said in the middle of it; and where every call without an end waits for a
/// person or for the client. The next one begins with what was said, or with what happens then. The end of a run that
/// waits is one turn, though it ends one call after the other.
#[derive(Debug)]
pub struct Responses {
    session: SessionId,
    spec: SessionSpec,
    settings: Settings,
    /// The current turn, from the start of the run on.
    turn: Option<Turn>,
    run_over: bool,
    /// Whether a model call is open.
    calling: bool,
    /// Whether the run is being ended: its calls are, one after the other, and the rest of them waits for nobody.
    closing: bool,
    calls: Calls,
}

/// What the run waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Calls whose results the client owes, with the names of their functions.
    pub calls: Vec<(CallId, String)>,
    /// Requests that a person has not answered, and the call that each is about.
    pub approvals: Vec<(ApprovalId, CallId)>,
}

impl Waiting {
    /// Whether it waits for nothing.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.approvals.is_empty()
    }
}

impl Responses {
    /// Before the run of this session has started.
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            spec: SessionSpec::default(),
            settings: Settings::default(),
            turn: None,
            run_over: false,
            calling: false,
            closing: false,
            calls: Calls::default(),
        }
    }

    /// Takes the next frame in. `session.created` may come first: it tells the settings and which tools are the client's.
    /// What else comes before `run.started`, or after the end of the run, shows nothing. Tells how many of the `chunks`
    /// are of earlier turns than the one that is current afterwards, where this frame began it; else 0.
    pub fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<usize> {
        if self.run_over {
            // Calls that a run ended with have their ends later, also where no other run begins with them.
            if matches!(frame.kind(), "tool.completed" | "tool.failed") && !self.calls.open().is_empty() {
                self.calls.end(&read::<read::Ended>(&frame.json())?.call_id);
            }
            return Ok(0);
        }
        let Some(turn) = &mut self.turn else { return self.push_before(frame, chunks) };
        if let Some(delta) = Delta::of(frame.body()) {
            self.delta(&delta, frame, chunks);
            return Ok(0);
        }
        let (kind, json) = (frame.kind(), frame.json());
        let mut earlier = 0;
        if turn.is_over() {
            match next(kind, &json)? {
                Next::Nothing => return Ok(0),
                Next::End => {
                    (self.run_over, self.calling) = (true, false);
                    return Ok(0);
                }
                Next::Turn => earlier = self.begin_turn(&json, chunks),
            }
        } else if kind == "input.added" && turn.has_steps {
            self.end_turn(Ending::Steered, &json, chunks);
            earlier = self.begin_turn(&json, chunks);
        }
        self.event(kind, &json, frame, chunks)?;
        if self.waits() {
            self.end_turn(Ending::Completed, &json, chunks);
        }
        Ok(earlier)
    }

    /// The number of the current turn: 0 before the run has started. It counts up when the next turn begins, so a turn
    /// stays current after its end.
    pub fn turn(&self) -> u32 {
        self.turn.as_ref().map_or(0, |turn| turn.id.turn)
    }

    /// Whether the current turn has had its last event.
    pub fn is_over(&self) -> bool {
        self.turn.as_ref().is_some_and(Turn::is_over)
    }

    /// Whether no turn follows the current one.
    pub fn run_is_over(&self) -> bool {
        self.run_over
    }

    /// The name of the current turn.
    pub fn id(&self) -> Option<ResponseId> {
        Some(self.turn.as_ref()?.id.clone())
    }

    /// The response object of the current turn as it is now, as JSON.
    pub fn object(&self) -> Option<String> {
        Some(self.turn.as_ref()?.object(&self.settings, self.calls.open()))
    }

    /// What the run waits for: all of it, also while other things go on.
    pub fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::default();
        for call in self.calls.waiting() {
            match &call.state {
                CallState::Asked { approval_id, .. } => {
                    waiting.approvals.push((approval_id.clone(), call.call_id.clone()));
                }
                _ => waiting.calls.push((call.call_id.clone(), call.name.clone())),
            }
        }
        waiting
    }

    /// Why the current turn has failed, if it has.
    pub fn failure(&self) -> Option<&Failure> {
        self.turn.as_ref()?.failure()
    }

    /// The run cannot be followed to its end, for this reason. Ends the current turn, unless it is over.
    pub fn fail(&mut self, reason: &str, chunks: &mut Chunks) {
        self.run_over = true;
        if let Some(turn) = self.turn.as_mut().filter(|turn| !turn.is_over()) {
            let ending = Ending::Failed(Failure { code: None, message: reason.to_owned() });
            turn.end(ending, 0, self.calls.open_mut(), &self.settings, chunks);
        }
    }

    fn push_before(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<usize> {
        match frame.kind() {
            "session.created" => {
                self.spec = read(&frame.json())?;
                self.calls.declare(&self.spec.tools);
            }
            "run.started" => {
                let json = frame.json();
                self.settings = Settings::of(&self.spec, &read(&json)?);
                let id = ResponseId { session: self.session.clone(), run: place(frame), turn: 1 };
                self.turn = Some(Turn::begin(id, seconds(&json), &self.settings, chunks));
            }
            _ => {}
        }
        Ok(0)
    }

    /// Begins the next turn with this event. Gives how many chunks there were before it.
    fn begin_turn(&mut self, json: &[u8], chunks: &mut Chunks) -> usize {
        let earlier = chunks.len();
        if let Some(turn) = &mut self.turn {
            *turn = Turn::begin(turn.next_id(), seconds(json), &self.settings, chunks);
        }
        earlier
    }

    fn end_turn(&mut self, ending: Ending, json: &[u8], chunks: &mut Chunks) {
        if let Some(turn) = &mut self.turn {
            turn.end(ending, seconds(json), self.calls.open_mut(), &self.settings, chunks);
        }
    }

    fn end_run(&mut self, ending: Ending, json: &[u8], chunks: &mut Chunks) {
        self.end_turn(ending, json, chunks);
        (self.run_over, self.calling) = (true, false);
        self.calls.clear();
    }

    /// Whether no model call is open, and every open tool call waits for a person or for the client.
    fn waits(&self) -> bool {
        !self.is_over() && !self.calling && !self.closing && self.calls.all_wait()
    }

    /// An event of the current turn that is no delta, or a delta that is not written as ours are.
    fn event(&mut self, kind: &str, json: &[u8], frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        match kind {
            "text.delta" => self.delta(&Delta::decode(Piece::Text, json)?, frame, chunks),
            "reasoning.delta" => self.delta(&Delta::decode(Piece::Reasoning, json)?, frame, chunks),
            "tool_call.delta" => self.delta(&Delta::decode(Piece::Arguments, json)?, frame, chunks),
            "tool_call.started" | "tool_call.ready" | "approval.requested" | "approval.resolved" | "tool.started"
            | "tool.completed" | "tool.failed" => return self.call_event(kind, json, frame, chunks),
            "run.completed" => {
                let reason = read::<fields::RunCompleted>(json)?.finish_reason;
                self.end_run(Ending::of(reason), json, chunks);
            }
            "run.cancelled" => self.end_run(Ending::Cancelled, json, chunks),
            "run.failed" => {
                let read::RunFailed { code, message } = read(json)?;
                self.end_run(Ending::Failed(Failure { code: Some(code), message }), json, chunks);
            }
            _ => {}
        }
        let Some(turn) = &mut self.turn else { return Ok(()) };
        let mut begin = |piece: Piece| -> serde_json::Result<()> {
            turn.output.begin(piece, read::<fields::Boundary>(json)?.block, &self.session, place(frame), chunks);
            Ok(())
        };
        match kind {
            "text.started" => begin(Piece::Text)?,
            "reasoning.started" => begin(Piece::Reasoning)?,
            "text.ended" => turn.output.end(Piece::Text, read::<fields::Boundary>(json)?.block),
            "reasoning.ended" => turn.output.end(Piece::Reasoning, read::<fields::Boundary>(json)?.block),
            "step.started" => {
                (self.calling, self.closing, turn.has_steps) = (true, false, true);
            }
            "step.ended" => {
                self.calling = false;
                turn.end_step(&read(json)?, chunks);
            }
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Delta<'_>, frame: &Frame, chunks: &mut Chunks) {
        let Delta { piece, block, literal } = *delta;
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.is_over()) else { return };
        if piece == Piece::Arguments {
            if let Some(call) = self.calls.of_block(block) {
                turn.write_call(call, literal, chunks);
            }
        } else if !turn.output.delta(piece, block, literal, chunks) {
            // It was begun in an earlier turn.
            turn.output.begin(piece, block, &self.session, place(frame), chunks);
            turn.output.delta(piece, block, literal, chunks);
        }
    }

    fn call_event(&mut self, kind: &str, json: &[u8], frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        let Some(turn) = &mut self.turn else { return Ok(()) };
        match kind {
            "tool_call.started" | "tool_call.ready" => {
                turn.output.settle(Status::Completed, chunks);
                let called: read::Called<'_> = read(json)?;
                let is_new = self.calls.begin(&called, place(frame));
                let Some(call) = self.calls.get(&called.call_id) else { return Ok(()) };
                if is_new {
                    turn.begin_call(call, chunks);
                }
                if let Some(arguments) = called.arguments {
                    turn.ready_call(call, arguments, chunks);
                }
            }
            "approval.requested" => {
                let requested: read::Requested<'_> = read(json)?;
                if let Some(call) = self.calls.get(&requested.call_id) {
                    turn.ask(&requested, place(frame), call, chunks);
                }
            }
            "approval.resolved" => {
                let resolved: fields::Resolved<'_> = read(json)?;
                let Some(call) = self.calls.asked(&resolved.approval_id) else { return Ok(()) };
                match resolved.outcome {
                    ApprovalOutcome::Approved => {
                        resolved.edited_arguments.into_iter().for_each(|edited| call.whole(edited));
                        turn.approve(call, chunks);
                    }
                    ApprovalOutcome::Cancelled | ApprovalOutcome::Superseded => {
                        (call.state, self.closing) = (CallState::Busy, true);
                    }
                    ApprovalOutcome::Denied | ApprovalOutcome::TimedOut => call.state = CallState::Busy,
                }
            }
            "tool.started" => {
                if let Some(call) = self.calls.get(&read::<fields::Begun>(json)?.call_id)
                    && !call.is_handed_over
                {
                    turn.run_call(call, chunks);
                }
            }
            "tool.completed" => {
                let completed: fields::Completed<'_> = read(json)?;
                let output = serde_json::from_str(completed.output.get())?;
                if let Some(call) = self.calls.end(&completed.call_id).filter(|call| !call.is_handed_over) {
                    turn.complete_call(call, &output, chunks);
                }
            }
            _ => {
                let fields::Failed { call_id, code, message } = read(json)?;
                match self.calls.end(&call_id) {
                    Some(call) if call.is_handed_over => {
                        self.closing |= code == ToolFailure::Interrupted && !self.calling;
                    }
                    Some(call) => turn.fail_call(call, code, &message, chunks),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// What an event is to a run between two turns.
enum Next {
    Nothing,
    /// It begins the next turn.
    Turn,
    /// The run ends as its last turn has told: with calls that wait for the client.
    End,
}

fn next(kind: &str, json: &[u8]) -> serde_json::Result<Next> {
    Ok(match kind {
        "run.completed" if read::<fields::RunCompleted>(json)?.finish_reason == FinishReason::ToolCalls => Next::End,
        "approval.resolved" | "tool.started" | "tool.completed" | "tool.failed" | "step.started" | "input.added"
        | "run.completed" | "run.cancelled" | "run.failed" => Next::Turn,
        _ => Next::Nothing,
    })
}
