//! A session whose store takes nothing more: what is stored can be read, and nothing else can be done.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{CANCEL_LANE_REQUESTS, Handle, MAILBOX_REQUESTS, Request, Shared, SnapshotJson, Watch, fold::Fold};
use crate::{
    id::SessionKey,
    log::SessionLog,
    store::{Store, StoreError},
};

/// Answers for such a session until nobody asks any more.
pub struct ReadOnly {
    fold: Fold,
    mailbox: mpsc::Receiver<Box<Request>>,
}

impl ReadOnly {
    /// A session as its log tells it. Readers get what is stored, then the reason why there is no more.
    pub(crate) fn new(
        key: SessionKey,
        fold: Fold,
        reason: StoreError,
        store: Arc<dyn Store>,
        watch: Watch,
    ) -> (Self, Handle) {
        let shared = Arc::new(Shared::new(key, SessionLog::new(fold.terms.clone(), fold.tail), watch));
        shared.fail(reason);
        let (mailbox, requests) = mpsc::channel(MAILBOX_REQUESTS);
        // Nothing runs, so there is nothing to cancel.
        let (cancels, _) = mpsc::channel(CANCEL_LANE_REQUESTS);
        (Self { fold, mailbox: requests }, Handle::new(shared, store, mailbox, cancels))
    }

    /// Answers what can be answered; every other question is refused by its answer's absence.
    pub async fn run(mut self) {
        while let Some(request) = self.mailbox.recv().await {
            match *request {
                Request::Snapshot { reply } => reply.send(SnapshotJson::of(&self.fold)),
                Request::NewestRun { reply } => drop(reply.send(self.fold.newest_run())),
                Request::Command { .. } | Request::Delete { .. } | Request::Shutdown => {}
            }
        }
    }
}
