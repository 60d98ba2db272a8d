//! A response in its log: found by its id, told turn by turn.

use super::{App, Refusal};
use crate::{
    dialect::{
        Chunks,
        openai_responses::{ResponseId, Responses},
    },
    event::Event,
    frame::Frame,
    http::{
        error::Problem,
        events::WRITE_BYTES_MAX,
        look,
        tell::{Teller, Telling},
    },
    id::{EventId, Seq, SessionKey, Tenant},
    session::Handle,
};

/// A turn of a run, and with `follows` also those that it is steered into.
pub(super) struct Turn {
    pub(super) fold: Responses,
    number: u32,
    follows: bool,
    /// What one frame gave.
    given: Chunks,
}

impl Turn {
    fn is_told(&self) -> bool {
        self.fold.turn() >= self.number && self.fold.is_over() || self.fold.turn() > self.number && !self.follows
    }
}

impl Teller for Turn {
    fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        if self.is_told() {
            return Ok(());
        }
        let before = self.fold.turn();
        self.given.clear();
        // A steer ends one turn and begins the next.
        let split = self.fold.push(frame, &mut self.given)?;
        let wanted = |turn: u32| turn == self.number || (turn > self.number && self.follows);
        let after = self.fold.turn();
        for (at, chunk) in self.given.iter().enumerate() {
            if wanted(if at < split { before } else { after }) {
                chunks.push_joined([chunk]);
            }
        }
        Ok(())
    }

    fn ends(&mut self, _at_tail: bool, _chunks: &mut Chunks) -> bool {
        self.is_told()
    }

    fn fail(&mut self, reason: &str, chunks: &mut Chunks) -> serde_json::Result<()> {
        if self.fold.turn() == self.number || self.follows {
            self.fold.fail(reason, chunks);
        }
        Ok(())
    }
}

/// A response that there is, as far as its id tells.
pub(super) struct Found {
    pub(super) handle: Handle,
    pub(super) id: ResponseId,
    /// Position of the run's first event.
    pub(super) run: Seq,
}

/// There is no such response, for whichever reason.
pub(super) fn no_such(id: &str) -> Refusal {
    Refusal::not_found("response_id", format!("Response with id '{}' not found.", crate::spec::clip(id, 160)))
}

/// The run that a response id names. Whether the turn has begun is not known yet.
pub(super) async fn find(app: &App, text: &str) -> Result<Found, Refusal> {
    let id: ResponseId = text.parse().map_err(|_| no_such(text))?;
    let key = SessionKey { tenant: Tenant::default(), session: id.session.clone() };
    let handle = app.find(&key).await?.ok_or_else(|| no_such(text))?;
    // One that was made a moment ago may not have its first event yet; whoever asks its task waits for that.
    let _stored = handle.newest_run().await?;
    let run = handle.locate(id.run).map_err(|_| no_such(text))?;
    match look::event_at(&handle, run).await? {
        Some(Event::RunStarted { .. }) => Ok(Found { handle, id, run }),
        _ => Err(no_such(text)),
    }
}

impl Found {
    /// The first turn of the run that begins at `first`.
    pub(super) fn first(handle: Handle, first: EventId) -> Self {
        let id = ResponseId { session: handle.key().session.clone(), run: first, turn: 1 };
        Self { run: first.seq, handle, id }
    }

    /// It told from its start.
    pub(super) async fn tell(self, follows: bool) -> Result<Telling<Turn>, Refusal> {
        let Self { handle, id, run } = self;
        let reader = handle.reader(Seq(run.0.saturating_sub(1)));
        let mut fold = Responses::new(id.session);
        let mut chunks = Chunks::new();
        if let Some(created) = look::frame_at(&handle, Seq(1)).await.map_err(Problem::from)? {
            fold.push(&created, &mut chunks).map_err(look::unreadable)?;
        }
        let teller = Turn { fold, number: id.turn, follows, given: Chunks::new() };
        Ok(Telling { handle, reader, teller, chunks })
    }

    /// The fold of the run up to the newest event, or to the end of the turn. `None` where the turn has not begun.
    pub(super) async fn now(self) -> Result<Option<Responses>, Refusal> {
        let number = self.id.turn;
        let mut telling = self.tell(false).await?;
        while let Some(frames) = telling.reader.ready(WRITE_BYTES_MAX).await.map_err(Problem::from)? {
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                telling.teller.push(&frame, &mut telling.chunks).map_err(look::unreadable)?;
                telling.chunks.clear();
                if telling.teller.is_told() {
                    return Ok(Some(telling.teller.fold).filter(|fold| fold.turn() == number));
                }
            }
        }
        Ok(Some(telling.teller.fold).filter(|fold| fold.turn() == number))
    }
}
