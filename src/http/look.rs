//! Single looks into a session's log: one event, what the session was created as, where a run begins.

use super::{error::Problem, events::WRITE_BYTES_MAX};
use crate::{
    command::Receipt,
    event::{Event, Record},
    frame::Frame,
    id::{RunId, Seq},
    session::{Handle, Reader},
    spec::SessionSpec,
    store::StoreError,
};

/// The next frames that there are now, as many as one write takes. `None` at the tail, and at the end of the log: a loop
/// over this reads what there is and waits for nothing.
pub(super) async fn ready(reader: &mut Reader) -> Result<Option<Vec<Frame>>, StoreError> {
    // What is in memory is there at once, and a loop over all of it would keep a thread from everybody else.
    tokio::task::yield_now().await;
    Ok(reader.ready(WRITE_BYTES_MAX).await?.filter(|frames| !frames.is_empty()))
}

/// The frame at `seq`. `None` where the log does not have it.
pub(super) async fn frame_at(handle: &Handle, seq: Seq) -> Result<Option<Frame>, StoreError> {
    let before = Seq(seq.0.saturating_sub(1));
    let frames = handle.reader(before).ready(1).await?;
    Ok(frames.and_then(|frames| frames.into_iter().next()))
}

/// The event at `seq`.
pub(super) async fn event_at(handle: &Handle, seq: Seq) -> Result<Option<Event>, Problem> {
    let frame = frame_at(handle, seq).await?;
    Ok(frame.and_then(|frame| Record::decode(&frame.json()).ok()).map(|record| record.event))
}

/// What the session was created as.
pub(super) async fn spec(handle: &Handle) -> Result<SessionSpec, Problem> {
    // One that was made a moment ago may not have its first event yet; whoever asks its task waits for that.
    let _stored = handle.newest_run().await?;
    match event_at(handle, Seq(1)).await? {
        Some(Event::SessionCreated { spec, .. }) => Ok(*spec),
        _ => Err(Problem::no_session()),
    }
}

/// Position of the first event of the run that a command has begun.
pub(super) async fn run_of(handle: &Handle, receipt: &Receipt) -> Result<Seq, Problem> {
    let run_id = match event_at(handle, receipt.seq).await? {
        Some(Event::CommandApplied { run_id, .. }) => run_id,
        _ => None,
    };
    let run = run_at(handle, run_id.as_ref()).await?;
    run.ok_or_else(|| Problem::new("internal", "the command has begun no run"))
}

/// Position of the first event of that run, if this chat has it.
pub(super) async fn run_at(handle: &Handle, run_id: Option<&RunId>) -> Result<Option<Seq>, Problem> {
    let first = run_id.and_then(RunId::first_event).and_then(|first| handle.locate(first).ok());
    let Some(first) = first else { return Ok(None) };
    let begins = matches!(event_at(handle, first).await?, Some(Event::RunStarted { .. }));
    Ok(begins.then_some(first))
}

pub(super) fn unreadable(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "an event of the log is not readable");
    Problem::new("internal", "this session is damaged")
}
