//! Logs on disk, in one SQLite file that is used as a container and not as a table of events.
//!
//! - A **journal** row holds everything that one group commit brought, of all sessions: one row, one write, however many
//!   sessions are streaming. It is what makes an event durable.
//! - A **chunk** row holds a run of events of one session, packed and compressed. Chunks are made when a session rests, or
//!   when much of it has gathered; journal rows whose events are all in chunks are deleted.
//! - A **session** row holds what is known of a session beside its events, for listings and for what is due.
//!
//! Between the two, a session's newest events are in memory (`tails`): the very frames that its readers share. One
//! thread writes, and is the only one; two threads read chunks. SQLite never runs on a thread of the runtime.
//!
//! The folder holds `steerage.sqlite` with its `-wal` and `-shm`, which `sqlite3` can open while the server runs, and
//! `lock`, which keeps a second server out. `docs/store.md` describes the tables for operators.
//!
//! After the first failed write or sync nothing is acknowledged any more ([`StoreError::Failed`]): what the disk holds is
//! then unknown, and only a restart reads it again. Reads go on.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::oneshot;

use super::{Append, Store, StoreError, Stored};
use crate::{
    env::Millis,
    event::Durability,
    frame::Frame,
    id::{Seq, SessionKey, Tenant},
};

mod chunk;
mod journal;
pub mod operate;
mod queue;
mod read;
mod recover;
mod schema;
mod tails;
mod tidy;
mod write;

use queue::{Operation, Queue};
use read::Readers;
use tails::Tails;

/// Why a store cannot be opened; the text names the file and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

/// How a store on disk behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder; made if it is not there.
    pub path: PathBuf,
    /// [`Durability::Os`] or [`Durability::Fsync`].
    pub durability: Durability,
}

/// Logs in a folder.
pub struct DiskStore {
    shared: Arc<Shared>,
    readers: Readers,
    durability: Durability,
    writer: Option<JoinHandle<()>>,
}

/// What the threads of a store share.
struct Shared {
    queue: Queue,
    tails: Tails,
    failure: OnceLock<String>,
}

impl Shared {
    /// The first failure stays; everything after it is refused.
    fn fail(&self, what: &str) -> StoreError {
        let first = self.failure.get_or_init(|| {
            tracing::error!(error = what, "the store has failed: nothing more is stored until a restart, reads go on");
            what.to_owned()
        });
        StoreError::Failed(first.clone())
    }
}

impl DiskStore {
    /// Opens the folder, or makes it; reads back what the journal holds.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let Config { path, durability } = config;
        let lock = schema::lock(&path)?;
        let file = schema::file(&path);
        let put_away = tidy::log_bytes(&file) == 0;
        let connection = schema::open_to_write(&file)?;
        let recovered = recover::take_up(&connection).map_err(schema::in_file(&file))?;
        let shared = Arc::new(Shared { queue: Queue::default(), tails: recovered.tails, failure: OnceLock::new() });
        let readers = Readers::start(&file)?;
        // After a failed sync the kernel may hold pages for clean that never reached the disk, and a log that goes on
        // behind such pages would end there at the next power cut: a new process begins a new log.
        if let Err(error) = tidy::truncate_log(&connection) {
            let _told_by_whoever_writes = shared.fail(&error.to_string());
        }
        let tidy = tidy::Tidy::new(file, put_away);
        let writer = write::Writer::new(connection, lock, tidy, shared.clone(), recovered.journal, durability);
        let writer = std::thread::Builder::new().name("steerage-store".into()).spawn(move || writer.run());
        let writer = writer.map_err(|error| OpenError(format!("a thread for the store: {error}")))?;
        Ok(Self { shared, readers, durability, writer: Some(writer) })
    }

    /// The folder's file, for those who look at it with tools of their own.
    pub fn file(path: &Path) -> PathBuf {
        schema::file(path)
    }

    fn ask(
        &self,
        urgent: bool,
        operation: impl FnOnce(oneshot::Sender<Result<(), StoreError>>) -> Operation,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        if let Some(reason) = self.shared.failure.get() {
            return ready(Err(StoreError::Failed(reason.clone()))).boxed();
        }
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(operation(reply), urgent);
        async { answer.await.unwrap_or_else(|_| Err(StoreError::Failed("its thread has ended".into()))) }.boxed()
    }
}

impl Store for DiskStore {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure.get().cloned()
    }

    fn create(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>> {
        let key = key.clone();
        self.ask(true, |reply| Operation::Create { key, reply })
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(append.binding, |reply| Operation::Append { append, reply })
    }

    fn read(&self, key: &SessionKey, after: Seq, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Frame>, StoreError>> {
        if let Some(frames) = self.shared.tails.read(key, after, bytes_max) {
            return ready(Ok(frames)).boxed();
        }
        let (key, shared) = (key.clone(), self.shared.clone());
        self.readers.ask(move |connection| read::events(connection, &shared.tails, &key, after, bytes_max))
    }

    fn delete(&self, key: &SessionKey) -> BoxFuture<'static, Result<(), StoreError>> {
        let key = key.clone();
        self.ask(true, |reply| Operation::Delete { key, reply })
    }

    fn scan(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Stored>, StoreError>> {
        let (tenant, shared) = (tenant.clone(), self.shared.clone());
        self.readers.ask(move |connection| read::sessions(connection, &shared.tails, &tenant, before, limit))
    }

    fn due(&self, until: Millis, limit: usize) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        self.readers.ask(move |connection| read::due(connection, until, limit))
    }

    fn get(&self, key: &SessionKey) -> BoxFuture<'_, Result<Stored, StoreError>> {
        let (key, shared) = (key.clone(), self.shared.clone());
        self.readers.ask(move |connection| read::session(connection, &shared.tails, &key))
    }
}

impl Drop for DiskStore {
    /// Waits until everything is in its place and the lock is free.
    fn drop(&mut self) {
        self.readers.stop();
        self.shared.queue.close();
        if let Some(writer) = self.writer.take() {
            let _broke_and_said_so = writer.join();
        }
    }
}
