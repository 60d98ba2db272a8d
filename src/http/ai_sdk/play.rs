//! A run played as the chunks of one response: from its start, or from where it waited for the client.
//!
//! A response ends where the client has to act: at the end of the run, and where every open call waits for an approval or
//! for a client's tool. A client that is still being sent something sends nothing itself.

use std::collections::HashSet;

use futures_util::Stream;

use super::{App, Handle, NewestRun, Options, PLAYED_AFTER_END_MS, Problem, chat};
use crate::{
    dialect::ai_sdk::{Chunks, Turn},
    event::Event,
    frame::Frame,
    http::{
        admission::Seat,
        look::{self, event_at, frame_at, unreadable},
        tell::{Piece, Teller, Telling},
    },
    id::{CallId, RunId, Seq},
    metrics::Transport,
    session::Reader,
};

/// What a run waits for.
pub(super) struct Waiting {
    /// The calls that are the client's to run, and that it may.
    pub(super) results: HashSet<CallId>,
    /// These, and those that wait for a person.
    pub(super) all: HashSet<CallId>,
}

/// A response that has not begun.
pub(super) struct Played {
    handle: Handle,
    reader: Reader,
    turn: Turn,
    /// What comes before the next frame's.
    chunks: Chunks,
    /// Position of the run's first event, and of the response's.
    run: Seq,
    first: Seq,
    options: Options,
    seat: Option<Seat>,
}

/// The newest run of a chat, or the run of a turn, if there is something to be played. `None` where there is no such
/// chat, where nothing ran, and where everything ended a while ago; with `ended`, what ended is played at any time.
pub(super) async fn newest(app: &App, id: &str, options: Options, ended: bool) -> Result<Option<Played>, Problem> {
    let chat = chat::Chat::or_turn(app.caller.tenant.clone(), id);
    let Some(handle) = app.find(&chat.key).await? else { return Ok(None) };
    let seat = app.seat(&chat.key)?;
    if let Some(event) = chat.turn {
        let Ok(at) = handle.locate(event) else { return Ok(None) };
        return Ok(Played::turn(handle, at, options).await?.map(|played| played.seated(seat)));
    }
    let Some(NewestRun { first, ended_at, .. }) = handle.newest_run().await? else { return Ok(None) };
    let over = ended_at.is_some_and(|at| app.env.now().0.saturating_sub(at.0) > PLAYED_AFTER_END_MS);
    if over && !ended {
        return Ok(None);
    }
    Ok(Some(Played::run(handle, first, options).await?.seated(seat)))
}

impl Played {
    /// The run whose first event is at `run`, from its start.
    pub(super) async fn run(handle: Handle, run: Seq, options: Options) -> Result<Self, Problem> {
        // First of all: a session that ends when its last reader leaves must not think that it has.
        let reader = handle.reader(Seq(run.0.saturating_sub(1)));
        let mut turn = Turn::new(options);
        let mut chunks = Chunks::new();
        if let Some(created) = frame_at(&handle, Seq(1)).await? {
            turn.push(&created, &mut chunks).map_err(unreadable)?;
        }
        Ok(Self { handle, reader, turn, chunks, run, first: run, options, seat: None })
    }

    /// The same for a reader who has a place.
    pub(super) fn seated(self, seat: Seat) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// The run from the first moment at which it waited for one of these calls, and the calls that it waits for now.
    /// `None` where it never did. A client that has only `results` to give is one that ran its tools when they were handed
    /// over to it: what was before that, the asking for leave, it has seen.
    pub(super) async fn after_pause(
        handle: Handle,
        run: Seq,
        calls: &[String],
        results: &HashSet<&str>,
        options: Options,
    ) -> Result<Option<(Self, Waiting)>, Problem> {
        let calls: HashSet<&str> = calls.iter().map(String::as_str).collect();
        let asked = |turn: &Turn| turn.waiting().any(|id| calls.contains(id.as_str()));
        let mut scout = Self::run(handle.clone(), run, options).await?;
        let handed_over = |turn: &Turn| turn.waits() && turn.handed_over().any(|id| results.contains(id.as_str()));
        let (mut asked_at, mut handed_over_at) = (None, None);
        while let Some(frames) = scout.ready().await?.filter(|_| !scout.turn.is_over()) {
            for frame in frames {
                scout.turn.push(&frame, &mut scout.chunks).map_err(unreadable)?;
                scout.chunks.clear();
                if asked_at.is_none() && asked(&scout.turn) {
                    asked_at = Some(frame.seq());
                }
                if handed_over_at.is_none() && handed_over(&scout.turn) {
                    handed_over_at = Some(frame.seq());
                }
            }
        }
        let Some(paused_at) = handed_over_at.or(asked_at) else { return Ok(None) };
        let (results, all) = (scout.turn.handed_over().cloned().collect(), scout.turn.awaited().cloned().collect());
        let played = Self::run(handle, run, options).await?.continued(paused_at).await?;
        Ok(played.map(|played| (played, Waiting { results, all })))
    }

    /// The client takes these calls for ended.
    pub(super) fn restate<'a>(&mut self, call_ids: impl IntoIterator<Item = &'a str>) {
        self.turn.restate(call_ids);
    }

    /// What can be read now. `None` at the tail.
    async fn ready(&mut self) -> Result<Option<Vec<Frame>>, Problem> {
        Ok(look::ready(&mut self.reader).await?)
    }

    /// The response whose first event is at `at`.
    async fn turn(handle: Handle, at: Seq, options: Options) -> Result<Option<Self>, Problem> {
        if let Some(Event::RunStarted { .. }) = event_at(&handle, at).await? {
            return Self::run(handle, at, options).await.map(Some);
        }
        let Some(NewestRun { first, .. }) = handle.newest_run().await?.filter(|run| run.first < at) else {
            return Ok(None);
        };
        Self::run(handle, first, options).await?.continued(Seq(at.0 - 1)).await
    }

    /// Passes over everything up to `before`: the response continues behind it.
    async fn continued(mut self, before: Seq) -> Result<Option<Self>, Problem> {
        while let Some(frames) = self.ready().await? {
            for frame in frames {
                self.turn.push(&frame, &mut self.chunks).map_err(unreadable)?;
                self.chunks.clear();
                if frame.seq() == before {
                    self.turn.restart(&mut self.chunks);
                    self.first = before.next();
                    self.reader = self.handle.reader(before);
                    return Ok(Some(self));
                }
            }
        }
        Ok(None)
    }

    /// How many chunks there are now.
    pub(super) async fn count(&self) -> Result<usize, Problem> {
        let again = Self::run(self.handle.clone(), self.run, self.options).await?;
        let again = match self.first == self.run {
            true => Some(again),
            false => again.continued(Seq(self.first.0 - 1)).await?,
        };
        let Some(mut again) = again else { return Ok(0) };
        let mut count = 0;
        while let Some(frames) = again.ready().await? {
            for frame in frames {
                again.turn.push(&frame, &mut again.chunks).map_err(unreadable)?;
            }
            count += again.chunks.len();
            again.chunks.clear();
        }
        if again.turn.waits() {
            again.turn.pause(&mut again.chunks);
        }
        Ok(count + again.chunks.len())
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The run that is played.
    pub(super) fn run_id(&self) -> RunId {
        RunId::of(self.handle.event_id(self.run).expect("a run begins at an event"))
    }

    /// The name that a client can come back to it with.
    pub(super) fn turn_id(&self) -> chat::TurnId {
        let event = self.handle.event_id(self.first).expect("a response begins at an event");
        chat::TurnId { session: self.handle.key().session.clone(), event }
    }

    /// Plays it, without the first `skip` chunks.
    pub(super) fn play(self, app: &App, skip: usize) -> impl Stream<Item = Piece> + Send + 'static {
        let Self { handle, reader, turn: teller, chunks, seat, .. } = self;
        Telling { handle, reader, teller, chunks, seat }.pieces(app, skip)
    }
}

impl Teller for Turn {
    const TRANSPORT: Transport = Transport::AiSdk;

    fn push(&mut self, frame: &Frame, chunks: &mut Chunks) -> serde_json::Result<()> {
        Self::push(self, frame, chunks)
    }

    /// A client that is still being sent something sends nothing itself, so where the run waits nothing would ever come.
    fn ends(&mut self, at_tail: bool, chunks: &mut Chunks) -> bool {
        let waits = at_tail && self.waits();
        if waits {
            self.pause(chunks);
        }
        waits || self.is_over()
    }

    fn fail(&mut self, reason: &str, chunks: &mut Chunks) -> serde_json::Result<()> {
        Self::fail(self, reason, chunks)
    }
}
