//! One session: a task that writes its log, handles that speak to the task, readers that follow the log.
//!
//! A session is created with its first event, or opened from its store; either way [`task::Task`] is its one writer
//! until the session is deleted, expires, or its store refuses an append. Commands reach the task through a bounded
//! mailbox; a cancel has a lane of its own, so that Stop is never behind a queue. Readers never speak to the task: they
//! hold a position and look at the log.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    auth::ANONYMOUS,
    command::{Command, Verb, Verbs},
    env::Millis,
    frame::Frame,
    id::{EventId, Seq, SessionKey},
    log::{CursorLost, Read, SessionLog},
    store::{Store, StoreError},
};

mod answer;
mod calls;
mod commands;
pub mod conversation;
pub mod fold;
mod history;
mod inputs;
mod limits;
mod meter;
pub mod read_only;
mod recovery;
mod seam;
pub mod state;
pub mod task;
pub mod view;
mod world;

use fold::NewestRun;
pub(crate) use meter::Watch;
use state::Reply;

/// Requests that wait for the task; more answer `busy`.
pub const MAILBOX_REQUESTS: usize = 32;
/// Cancels that wait for the task, beside the mailbox.
pub const CANCEL_LANE_REQUESTS: usize = 8;
/// Snapshots of one session that are asked for at once. The session's own task makes them, one after another, and a huge
/// session takes long: a command waits for so many at most.
pub const SNAPSHOTS_MAX: usize = 4;

/// Of so many writes of a single event to a reader one is measured, and counts for all of them: the clock, and a counter
/// that all threads share, cost half as much as such a delivery itself.
const DELIVERY_SAMPLED_ONE_IN: u32 = 8;

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Request {
    Command { command: Command, by: String, reply: oneshot::Sender<Reply> },
    Snapshot { reply: SnapshotReply },
    NewestRun { reply: oneshot::Sender<Option<NewestRun>> },
    Delete { reply: oneshot::Sender<()> },
    Shutdown,
}

/// Where a snapshot goes. It takes up one of [`SNAPSHOTS_MAX`] until it is there, also when whoever asked has left: what
/// is in the mailbox has to be made.
#[derive(Debug)]
pub(crate) struct SnapshotReply {
    to: oneshot::Sender<SnapshotJson>,
    _turn: OwnedSemaphorePermit,
}

impl SnapshotReply {
    pub(crate) fn send(self, snapshot: SnapshotJson) {
        let _asker_has_left = self.to.send(snapshot);
    }
}

/// A snapshot, ready to be sent.
#[derive(Clone, Debug)]
pub struct SnapshotJson {
    /// As `GET /v1/sessions/{id}` answers it.
    pub json: Box<serde_json::value::RawValue>,
    /// The newest event that it covers.
    pub last_event_id: EventId,
}

impl SnapshotJson {
    fn of(fold: &fold::Fold) -> Self {
        let json = serde_json::value::to_raw_value(&fold.snapshot()).expect("plain JSON");
        Self { json, last_event_id: fold.last_event_id() }
    }
}

/// Why a session did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Its mailbox is full.
    #[error("the session has {MAILBOX_REQUESTS} requests waiting")]
    Busy,
    /// As many snapshots of it are asked for as may be.
    #[error("the session makes {SNAPSHOTS_MAX} snapshots already, as many as it does at once")]
    TooManySnapshots,
    /// It has ended: deleted or expired.
    #[error("the session has ended")]
    Ended,
    /// Its store takes nothing more, so nothing can be done and nothing is promised. What is stored can be read.
    #[error("{0}")]
    Store(StoreError),
    /// Whoever the handle was given to may not.
    #[error("this takes the verb `{0}`, which the token does not have")]
    NotAllowed(Verb),
}

/// What a session's task and everyone who speaks to it share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) key: SessionKey,
    pub(crate) log: SessionLog,
    pub(crate) readers: AtomicUsize,
    pub(crate) readers_changed: Notify,
    snapshots: Arc<Semaphore>,
    watch: Watch,
    /// Why the log ended before the session did.
    failure: OnceLock<StoreError>,
    /// How often in a row the registry found it idle.
    idle: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(key: SessionKey, log: SessionLog, watch: Watch) -> Self {
        let (readers, readers_changed) = (AtomicUsize::new(0), Notify::new());
        let snapshots = Arc::new(Semaphore::new(SNAPSHOTS_MAX));
        Self {
            key,
            log,
            readers,
            readers_changed,
            snapshots,
            watch,
            failure: OnceLock::new(),
            idle: AtomicUsize::new(0),
        }
    }

    /// Ends the log for this reason; the first one stays.
    pub(crate) fn fail(&self, error: StoreError) {
        let _first = self.failure.set(error);
        self.log.close();
    }
}

/// A request of a session's task, and where its answer comes.
type Asked = (Box<Request>, oneshot::Receiver<Reply>);

/// Speaks to a session; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    // Boxed: a channel keeps room for 32 of what it carries, whether or not anything is ever sent.
    mailbox: mpsc::Sender<Box<Request>>,
    cancels: mpsc::Sender<Box<Request>>,
    /// Who speaks through it, if it was said, and what they may.
    by: Option<Arc<str>>,
    may: Verbs,
}

impl Handle {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        mailbox: mpsc::Sender<Box<Request>>,
        cancels: mpsc::Sender<Box<Request>>,
    ) -> Self {
        Self { shared, store, mailbox, cancels, by: None, may: Verbs::ALL }
    }

    /// The same, for somebody: commands that are given through it are theirs, and it takes only what they may.
    #[must_use]
    pub fn of(self, by: Arc<str>, may: Verbs) -> Self {
        Self { by: Some(by), may, ..self }
    }

    /// Who speaks through it.
    pub fn by(&self) -> &str {
        self.by.as_deref().unwrap_or(ANONYMOUS)
    }

    /// The session's key.
    pub fn key(&self) -> &SessionKey {
        &self.shared.key
    }

    /// Gives a command, and waits until its effect is stored. Dropping the future does not take the command back.
    pub async fn command(&self, command: Command, by: String) -> Result<Reply, SessionError> {
        let (kind, lane) = match &command {
            Command::Cancel(_) => (command.kind(), &self.cancels),
            _ => (command.kind(), &self.mailbox),
        };
        let (request, answer) = self.request(command, by)?;
        self.offer(lane, request).inspect_err(|error| {
            if *error == SessionError::Busy {
                self.shared.watch.busy(kind);
            }
        })?;
        answer.await.map_err(|_| self.ended())
    }

    /// The same from one who holds few commands at a time and gives them in their order: where the mailbox is full it
    /// waits for its turn. A cancel never waits.
    pub async fn command_in_turn(&self, command: Command, by: String) -> Result<Reply, SessionError> {
        if matches!(command, Command::Cancel(_)) {
            return self.command(command, by).await;
        }
        let (request, answer) = self.request(command, by)?;
        self.mailbox.send(request).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())
    }

    /// A command as its session is asked: the one place where it is looked at whether its giver may.
    fn request(&self, command: Command, by: String) -> Result<Asked, SessionError> {
        if let Some(verb) = command.verb_missing(self.may) {
            return Err(SessionError::NotAllowed(verb));
        }
        if let Some(error) = self.failure() {
            return Err(SessionError::Store(error.clone()));
        }
        let (reply, answer) = oneshot::channel();
        Ok((Box::new(Request::Command { command, by, reply }), answer))
    }

    /// Why nobody answers.
    fn ended(&self) -> SessionError {
        self.failure().map_or(SessionError::Ended, |error| SessionError::Store(error.clone()))
    }

    /// Why the log ended before the session did, if it has.
    pub fn failure(&self) -> Option<&StoreError> {
        self.shared.failure.get()
    }

    /// Tells everyone that nothing more will be stored.
    pub(crate) fn fail(&self, error: StoreError) {
        self.shared.fail(error);
    }

    /// Asked at every look of the registry: whether it has been so for `looks` of them that nothing runs and nobody but
    /// the registry and the task has to do with it.
    pub(crate) fn is_idle_for(&self, looks: usize) -> bool {
        const REGISTRY_AND_TASK: usize = 2;
        let idle = Arc::strong_count(&self.shared) <= REGISTRY_AND_TASK && self.is_resting();
        let before = if idle { self.shared.idle.fetch_add(1, Ordering::Relaxed) } else { 0 };
        if !idle {
            self.shared.idle.store(0, Ordering::Relaxed);
        }
        idle && before + 1 >= looks
    }

    /// The folded session, once everything in it is stored. Waits for its turn: for who holds a place of another kind, and
    /// one request at a time.
    pub async fn snapshot(&self) -> Result<SnapshotJson, SessionError> {
        let turn = self.shared.snapshots.clone().acquire_owned().await.map_err(|_| self.ended())?;
        self.snapshot_in(turn).await
    }

    /// The same for anybody: where [`SNAPSHOTS_MAX`] are asked for it is refused.
    pub async fn snapshot_at_once(&self) -> Result<SnapshotJson, SessionError> {
        let turn = self.shared.snapshots.clone().try_acquire_owned().map_err(|_| SessionError::TooManySnapshots)?;
        self.snapshot_in(turn).await
    }

    async fn snapshot_in(&self, turn: OwnedSemaphorePermit) -> Result<SnapshotJson, SessionError> {
        let (to, answer) = oneshot::channel();
        let reply = SnapshotReply { to, _turn: turn };
        self.mailbox.send(Box::new(Request::Snapshot { reply })).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())
    }

    /// Where the newest run is, once everything about it is stored. `None` where nothing has run.
    pub async fn newest_run(&self) -> Result<Option<NewestRun>, SessionError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Box::new(Request::NewestRun { reply })).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())
    }

    /// Cancels what runs and forgets the session; answered when the store has forgotten it.
    pub async fn delete(&self) -> Result<(), SessionError> {
        if let Some(error) = self.failure() {
            return Err(SessionError::Store(error.clone()));
        }
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Box::new(Request::Delete { reply })).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())
    }

    /// Ends what runs because the server stops.
    pub async fn shut_down(&self) {
        let _ended_already = self.mailbox.send(Box::new(Request::Shutdown)).await;
    }

    fn offer(&self, lane: &mpsc::Sender<Box<Request>>, request: Box<Request>) -> Result<(), SessionError> {
        lane.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SessionError::Busy,
            mpsc::error::TrySendError::Closed(_) => self.ended(),
        })
    }

    /// Whether the task has ended.
    pub fn has_ended(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// The position that a client's cursor stands for.
    pub fn locate(&self, cursor: EventId) -> Result<Seq, CursorLost> {
        self.shared.log.locate(cursor)
    }

    /// The newest position that readers can see.
    pub fn tail(&self) -> Seq {
        self.shared.log.tail()
    }

    /// Whether nothing comes by itself past `after`.
    pub fn rests_at(&self, after: Seq) -> bool {
        self.shared.log.rests_at(after)
    }

    /// Whether no run is running, as far as readers can see.
    pub fn is_resting(&self) -> bool {
        self.shared.log.is_resting()
    }

    /// The cursor of the event at `seq`.
    pub fn event_id(&self, seq: Seq) -> Option<EventId> {
        self.shared.log.event_id(seq)
    }

    /// Follows the log from past `after`.
    pub fn reader(&self, after: Seq) -> Reader {
        self.shared.readers.fetch_add(1, Ordering::Relaxed);
        self.shared.readers_changed.notify_one();
        let since = self.shared.watch.now();
        Reader { shared: self.shared.clone(), store: self.store.clone(), cursor: after, since, lone_writes: 0 }
    }
}

/// Follows a log: a position, and nothing else. Replay and tail are the same call.
pub struct Reader {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    cursor: Seq,
    /// When it came, and how many single events it was given since.
    since: Millis,
    lone_writes: u32,
}

impl Reader {
    /// Waits for what is past the cursor: up to `bytes_max` of it, at least one event. `None` at the end of the log.
    /// Cancel-safe: the cursor moves only when frames are handed out.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<Frame>>, StoreError> {
        let frames = match self.shared.log.wait_past(self.cursor, bytes_max).await {
            Read::Frames(frames) => frames,
            Read::Older => self.stored(bytes_max).await?,
            Read::Closed => return Ok(None),
        };
        match frames.len() {
            // Several at once have waited, and are always looked at.
            0 | 1 => {
                self.lone_writes = self.lone_writes.wrapping_add(1);
                if self.lone_writes.is_multiple_of(DELIVERY_SAMPLED_ONE_IN) {
                    self.shared.watch.delivers(&frames, self.since, DELIVERY_SAMPLED_ONE_IN.into());
                }
            }
            _ => self.shared.watch.delivers(&frames, self.since, 1),
        }
        Ok(self.hand_out(frames))
    }

    /// What is past the cursor now, without waiting for the writer: empty at the tail, `None` at the end of the log.
    pub async fn ready(&mut self, bytes_max: usize) -> Result<Option<Vec<Frame>>, StoreError> {
        let frames = match self.shared.log.look_past(self.cursor, bytes_max) {
            None => return Ok(Some(Vec::new())),
            Some(Read::Frames(frames)) => frames,
            Some(Read::Older) => self.stored(bytes_max).await?,
            Some(Read::Closed) => return Ok(None),
        };
        Ok(self.hand_out(frames))
    }

    /// What the store holds past the cursor, as far as it was published: the store has an event a moment before the log,
    /// and a cursor from that moment would be one that the log does not know yet.
    async fn stored(&self, bytes_max: usize) -> Result<Vec<Frame>, StoreError> {
        let mut frames = self.store.read(&self.shared.key, self.cursor, bytes_max).await?;
        let tail = self.shared.log.tail();
        frames.truncate(frames.partition_point(|frame| frame.seq() <= tail));
        Ok(frames)
    }

    fn hand_out(&mut self, frames: Vec<Frame>) -> Option<Vec<Frame>> {
        let newest = frames.last()?.seq();
        assert_eq!(frames[0].seq(), self.cursor.next(), "a reader sees no gap");
        self.cursor = newest;
        Some(frames)
    }

    /// The position up to which events were handed out.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.readers.fetch_sub(1, Ordering::Relaxed);
        self.shared.readers_changed.notify_one();
    }
}
