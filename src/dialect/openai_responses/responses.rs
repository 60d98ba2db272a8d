//! The responses of one run: the fold of its frames, turn by turn.

use super::{Chunks, ResponseId};
use crate::{
    event::FailureCode,
    frame::Frame,
    id::{ApprovalId, CallId, SessionId},
};

/// The responses of one run: the fold of its frames, turn by turn.
#[derive(Debug)]
pub struct Responses {
    session: SessionId,
}

/// What the run waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Calls whose results the client owes, with the names of their functions.
    pub calls: Vec<(CallId, String)>,
    /// Requests that a person has not answered, and the call that each is about.
    pub approvals: Vec<(ApprovalId, CallId)>,
}

/// Why a response failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Our code. `None` where the run can be followed no further, whatever becomes of it.
    pub code: Option<FailureCode>,
    /// For a person.
    pub message: String,
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
        Self { session }
    }

    /// Takes the next frame in. `session.created` may come first: it tells the settings and which tools are the client's.
    /// What else comes before `run.started`, or after the end of the run, shows nothing. Tells how many of the `chunks`
    /// are of earlier turns than the one that is current afterwards, where this frame began it; else 0.
    pub fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<usize> {
        let _ = (frame, chunks);
        Ok(0)
    }

    /// The number of the current turn: 0 before the run has started. It counts up when the next turn begins, so a turn
    /// stays current after its end.
    pub fn turn(&self) -> u32 {
        0
    }

    /// Whether the current turn has had its last event.
    pub fn is_over(&self) -> bool {
        false
    }

    /// Whether no turn follows the current one.
    pub fn run_is_over(&self) -> bool {
        false
    }

    /// The name of the current turn.
    pub fn id(&self) -> Option<ResponseId> {
        let _ = &self.session;
        None
    }

    /// The response object of the current turn as it is now, as JSON.
    pub fn object(&self) -> Option<String> {
        None
    }

    /// What the run waits for: all of it, also while other things go on.
    pub fn waiting(&self) -> Waiting {
        Waiting::default()
    }

    /// Why the current turn has failed, if it has.
    pub fn failure(&self) -> Option<&Failure> {
        None
    }

    /// The run cannot be followed to its end, for this reason. Ends the current turn, unless it is over.
    pub fn fail(&mut self, reason: &str, chunks: &mut Chunks) {
        let _ = (reason, chunks);
    }
}
