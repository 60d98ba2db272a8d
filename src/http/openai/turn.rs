//! A response in its log: found by its id, told turn by turn.

use super::{
    App, Refusal,
    respond::{CONVERSATION, ECHO},
};
use crate::{
    dialect::{
        Chunks,
        openai_responses::{Failure, ResponseId, Responses, Waiting},
    },
    event::Event,
    frame::Frame,
    http::{
        admission::Seat,
        error::Problem,
        look,
        tell::{Teller, Telling},
    },
    id::{EventId, Seq, SessionId},
    metrics::Transport,
    session::Handle,
};

/// A turn of a run, and with `follows` also those that it is steered into.
pub(super) struct Turn {
    fold: Responses,
    number: u32,
    follows: bool,
    /// What one frame gave.
    given: Chunks,
    /// The response object at the end of the turn, where another turn has begun since.
    ended: Option<String>,
}

impl Turn {
    fn new(session: SessionId, number: u32, follows: bool) -> Self {
        Self { fold: Responses::new(session), number, follows, given: Chunks::new(), ended: None }
    }

    fn is_told(&self) -> bool {
        let turn = self.fold.turn();
        turn >= self.number && self.fold.is_over() || turn > self.number && !self.follows
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.fold.turn() >= self.number
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.is_told()
    }

    /// Whether it is the one that its run is at, as far as was read.
    pub(super) fn is_newest(&self) -> bool {
        self.fold.turn() == self.number
    }

    /// What its run waits for.
    pub(super) fn waiting(&self) -> Waiting {
        self.fold.waiting()
    }

    /// Why it failed, if it has.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.fold.failure().filter(|_| self.is_newest())
    }

    /// The response object, JSON.
    pub(super) fn object(self) -> Option<String> {
        self.ended.or_else(|| self.fold.object())
    }
}

/// The object in an event that ends a response.
fn response_in(event: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Terminal<'a> {
        #[serde(borrow)]
        response: &'a serde_json::value::RawValue,
    }
    serde_json::from_str::<Terminal<'_>>(event).ok().map(|event| event.response.get().to_owned())
}

impl Teller for Turn {
    const TRANSPORT: Transport = Transport::OpenaiResponses;

    fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        if self.is_told() {
            return Ok(());
        }
        let before = self.fold.turn();
        self.given.clear();
        // A steer ends one turn and begins the next.
        let split = self.fold.push(frame, &mut self.given)?;
        let after = self.fold.turn();
        let wanted = |turn: u32| turn == self.number || (turn > self.number && self.follows);
        for (at, chunk) in self.given.iter().enumerate() {
            if wanted(if at < split { before } else { after }) {
                chunks.push_joined([chunk]);
            }
        }
        if before == self.number && after > before {
            self.ended = split.checked_sub(1).and_then(|last| self.given.iter().nth(last)).and_then(response_in);
        }
        Ok(())
    }

    fn ends(&mut self, _at_tail: bool, _chunks: &mut Chunks) -> bool {
        self.is_told()
    }

    fn fail(&mut self, reason: &str, chunks: &mut Chunks) -> serde_json::Result<()> {
        if self.has_begun() {
            self.fold.fail(reason, chunks);
        }
        Ok(())
    }
}

/// A response that there is, as far as its id tells.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) handle: Handle,
    pub(super) id: ResponseId,
    /// Position of the run's first event.
    pub(super) run: Seq,
    /// The place of whoever will be told, where there is one already.
    seat: Option<Seat>,
}

/// There is no such response, for whichever reason.
pub(super) fn no_such(id: &str) -> Refusal {
    Refusal::not_found("response_id", format!("Response with id '{}' not found.", crate::spec::clip(id, 160)))
}

/// The run that a response id names. Whether the turn has begun is not known yet.
pub(super) async fn find(app: &App, text: &str) -> Result<Found, Refusal> {
    let id: ResponseId = text.parse().map_err(|_| no_such(text))?;
    let key = app.key(id.session.clone());
    let handle = app.find(&key).await?.ok_or_else(|| no_such(text))?;
    // One that was made a moment ago may not have its first event yet; whoever asks its task waits for that.
    let _stored = handle.newest_run().await?;
    let run = handle.locate(id.run).map_err(|_| no_such(text))?;
    match look::event_at(&handle, run).await? {
        Some(Event::RunStarted { .. }) => Ok(Found { handle, id, run, seat: None }),
        _ => Err(no_such(text)),
    }
}

impl Found {
    /// The first turn of the run that begins at `first`.
    pub(super) fn first(handle: Handle, first: EventId) -> Self {
        let id = ResponseId { session: handle.key().session.clone(), run: first, turn: 1 };
        Self { run: first.seq, handle, id, seat: None }
    }

    /// The same for a reader who has a place, if it is to be told.
    pub(super) fn seated(self, seat: Option<Seat>) -> Self {
        Self { seat: seat.or(self.seat), ..self }
    }

    /// The same with a place.
    pub(super) fn with_seat(self, app: &App) -> Result<Self, Refusal> {
        match self.seat {
            Some(_) => Ok(self),
            None => Ok(Self { seat: Some(app.seat(self.handle.key())?), ..self }),
        }
    }

    /// Whether its session is its own and holds nothing else.
    pub(super) async fn is_alone(&self) -> Result<bool, Refusal> {
        let newest = self.handle.newest_run().await?;
        let run = look::event_at(&self.handle, self.run).await?;
        let Some(Event::RunStarted { metadata, .. }) = run else { return Ok(false) };
        let own = metadata.get(ECHO).is_some_and(|echo| echo.get(CONVERSATION).is_none());
        Ok(own && newest.is_some_and(|newest| newest.first == self.run))
    }

    /// It told from its start.
    pub(super) async fn tell(self, follows: bool) -> Result<Telling<Turn>, Refusal> {
        let Self { handle, id, run, seat } = self;
        let reader = handle.reader(Seq(run.0.saturating_sub(1)));
        let mut teller = Turn::new(id.session, id.turn, follows);
        let mut chunks = Chunks::new();
        if let Some(created) = look::frame_at(&handle, Seq(1)).await.map_err(Problem::from)? {
            teller.push(&created, &mut chunks).map_err(look::unreadable)?;
        }
        Ok(Telling { handle, reader, teller, chunks, seat })
    }

    /// It as it is now, or as it ended. `None` where the turn has not begun.
    pub(super) async fn now(self) -> Result<Option<Turn>, Refusal> {
        let turn = self.up_to(|_, turn| turn.is_told()).await?;
        Ok(Some(turn).filter(Turn::has_begun))
    }

    /// The response that this one has come to: itself, or what it was steered into. `None` where its run has come to a
    /// later one in another way, or its session to a later run.
    pub(super) async fn current(&self) -> Result<Option<Self>, Refusal> {
        let newest = self.handle.newest_run().await?;
        if newest.is_none_or(|newest| newest.first != self.run) {
            return Ok(None);
        }
        let mut whole = self.clone();
        whole.id.turn = NO_TURN;
        let Telling { mut reader, teller: Turn { mut fold, .. }, mut chunks, .. } = whole.tell(false).await?;
        let mut turn = self.id.turn;
        while let Some(frames) = look::ready(&mut reader).await.map_err(Problem::from)? {
            for frame in frames {
                let (before, had_ended) = (fold.turn(), fold.is_over());
                fold.push(&frame, &mut chunks).map_err(look::unreadable)?;
                chunks.clear();
                // A steer ends a turn and begins the next in one.
                if fold.turn() > before && before == turn && !had_ended {
                    turn = fold.turn();
                }
            }
        }
        let id = ResponseId { turn, ..self.id.clone() };
        Ok((fold.turn() == turn).then(|| Self { id, ..self.clone() }))
    }

    /// What is read of the run until `enough`, or up to the newest event.
    async fn up_to(self, enough: impl Fn(&Frame, &Turn) -> bool) -> Result<Turn, Refusal> {
        let mut telling = self.tell(false).await?;
        while let Some(frames) = look::ready(&mut telling.reader).await.map_err(Problem::from)? {
            for frame in frames {
                telling.teller.push(&frame, &mut telling.chunks).map_err(look::unreadable)?;
                telling.chunks.clear();
                if enough(&frame, &telling.teller) {
                    return Ok(telling.teller);
                }
            }
        }
        Ok(telling.teller)
    }
}

/// A turn that no run has: a fold for it reads its run to the newest event.
const NO_TURN: u32 = u32::MAX;

/// The response of the run that begins at `run`, in whose time the event at `at` was.
pub(super) async fn at(handle: Handle, run: Seq, at: Seq) -> Result<Found, Refusal> {
    let run = handle.event_id(run).ok_or_else(|| Problem::new("internal", "the run has no beginning"))?;
    let whole =
        Found { id: ResponseId { turn: NO_TURN, ..Found::first(handle.clone(), run).id }, ..Found::first(handle, run) };
    let handle = whole.handle.clone();
    let turn = whole.up_to(|frame, _| frame.seq() >= at).await?.fold.turn();
    let first = Found::first(handle, run);
    Ok(Found { id: ResponseId { turn: turn.max(1), ..first.id }, ..first })
}

/// What the newest run of a session waits for, if anything.
pub(super) async fn waiting(handle: &Handle) -> Result<Waiting, Refusal> {
    let run = handle.newest_run().await?.and_then(|run| handle.event_id(run.first));
    let Some(run) = run else { return Ok(Waiting::default()) };
    let mut newest = Found::first(handle.clone(), run);
    newest.id.turn = NO_TURN;
    Ok(newest.up_to(|_, _| false).await?.waiting())
}
