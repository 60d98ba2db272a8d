//! What was said before a response: the items of the chain, items that are only referred to, what a run waits for.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Refusal, turn};
use crate::{
    command::{Command, CommandKind, Withdraw},
    dialect::openai_responses::{ItemId, Items, ResponseId},
    http::{control::give, error::Problem, look},
    id::{CommandId, Seq, SessionId},
    session::Handle,
    spec::clip,
};

/// Bytes of the items that a request brings in by a name, of a chain or of single items: a quarter of what a session holds
/// by default. A name is short, and said over and over it would stand for anything.
const NAMED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of logs that are read for one request's references: each conversation that is referred to is read whole, one
/// after the other. As much as one session holds by default, which is hundreds of answers of a chat.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a response follows.
pub(super) struct Chain {
    /// Everything that was said, and what its answer was.
    pub(super) items: Vec<Value>,
    /// Who answered.
    pub(super) model: String,
    /// Steers that waited for an answer of the client's. They are among the items.
    steers: Vec<CommandId>,
    handle: Handle,
}

/// What is before a response that follows this one: its chain, its own items, and the steers that waited for an answer of
/// its client's, which are said now.
pub(super) async fn before(app: &App, previous: &ResponseId) -> Result<Chain, Refusal> {
    let name = previous.to_string();
    let no_such = |_| {
        let message = format!("Previous response with id '{name}' not found.");
        Refusal::invalid("previous_response_not_found", "previous_response_id", message)
    };
    let found = turn::find(app, &name).await.map_err(no_such)?;
    let handle = found.handle.clone();
    let all = all(&handle).await?;
    let Some(mut items) = all.through(previous) else {
        // One that has not begun is none.
        all.before(previous).ok_or_else(|| no_such(turn::no_such(&name)))?;
        let message = format!("Previous response with id '{name}' has not ended.");
        return Err(Refusal::invalid("previous_response_in_progress", "previous_response_id", message));
    };
    fits(items.iter().map(|item| item.to_string().len()).sum())?;
    let model = look::spec(&handle).await?.model;
    let mut steers = Vec::new();
    for (command_id, content) in waiting_steers(&handle, found.run).await? {
        let part = json!({"type": "input_text", "text": content});
        items.push(json!({"type": "message", "role": "user", "content": [part]}));
        steers.push(command_id);
    }
    Ok(Chain { items, model, steers, handle })
}

impl Chain {
    /// The steers are said now, in the response that follows: they wait no longer where they waited. Only once they are
    /// said, so that none is lost.
    pub(super) async fn take_steers(self) {
        for target in self.steers {
            let command_id = target.clone();
            if let Err(problem) = give(&self.handle, Command::Withdraw(Withdraw { command_id: None, target })).await {
                // Somebody took it back, or it was said there meanwhile.
                tracing::debug!(
                    session_id = %self.handle.key().session, tenant = %self.handle.key().tenant, %command_id, problem.code,
                    "a steer was not taken along"
                );
            }
        }
    }
}

/// Every item of a session.
pub(super) async fn all(handle: &Handle) -> Result<Items, Refusal> {
    let items = all_within(handle, &mut usize::MAX.to_owned()).await?;
    Ok(items.expect("no log is as large as that"))
}

/// Every item of a session, if its log has no more bytes than there is room for; they are taken off.
async fn all_within(handle: &Handle, room: &mut usize) -> Result<Option<Items>, Refusal> {
    let mut items = Items::new(handle.key().session.clone());
    let mut reader = handle.reader(Seq::ZERO);
    while let Some(frames) = look::ready(&mut reader).await.map_err(Problem::from)? {
        for frame in frames {
            let Some(left) = room.checked_sub(frame.size()) else { return Ok(None) };
            *room = left;
            items.push(&frame).map_err(look::unreadable)?;
        }
        // A long log is read between two tokens of other sessions.
        tokio::task::yield_now().await;
    }
    Ok(Some(items))
}

/// Steers that wait for the results which the run's client gives in another session.
async fn waiting_steers(handle: &Handle, run: Seq) -> Result<Vec<(CommandId, String)>, Refusal> {
    #[derive(Deserialize)]
    struct Snapshot {
        run: Option<serde::de::IgnoredAny>,
        queue: Vec<Pending>,
    }
    #[derive(Deserialize)]
    struct Pending {
        command_id: CommandId,
        kind: CommandKind,
        content: String,
    }
    if handle.newest_run().await?.is_none_or(|newest| newest.first != run || newest.ended_at.is_none()) {
        return Ok(Vec::new());
    }
    let snapshot = handle.snapshot().await?;
    let Snapshot { run, queue } = serde_json::from_str(snapshot.json.get()).expect("our own JSON");
    let steers = queue.into_iter().filter(|pending| run.is_none() && pending.kind == CommandKind::Steer);
    Ok(steers.map(|pending| (pending.command_id, pending.content)).collect())
}

/// Whether so much can be brought in by names.
fn fits(bytes: usize) -> Result<(), Refusal> {
    match bytes <= NAMED_BYTES_MAX {
        true => Ok(()),
        false => {
            let message = format!("what a response follows or refers to is at most {NAMED_BYTES_MAX} bytes of items");
            Err(Refusal::invalid("context_length_exceeded", "input", message))
        }
    }
}

/// Leaves out what is there already: some clients refer to an item twice, or to one of the chain that they name.
pub(super) fn without_repetitions(chain: &[Value], items: Vec<Value>) -> Vec<Value> {
    let ours = |item: &Value| item["id"].as_str().filter(|id| ItemId::session_of(id).is_some()).map(str::to_owned);
    let mut known: HashSet<String> = chain.iter().filter_map(ours).collect();
    items.into_iter().filter(|item| ours(item).is_none_or(|id| known.insert(id))).collect()
}

/// Puts the items that are only referred to in their places.
pub(super) async fn resolve(app: &App, items: &mut [Value]) -> Result<(), Refusal> {
    let no_such = |at: usize, id: &str| {
        let message = format!("Item with id '{}' not found.", clip(id, 160));
        Refusal::not_found(&format!("input[{at}].id"), message)
    };
    // One session after the other: only one of them is held at a time.
    let mut referred: BTreeMap<SessionId, Vec<(usize, String)>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate().filter(|(_, item)| item["type"] == "item_reference") {
        let id = item["id"].as_str().unwrap_or_default();
        let session = ItemId::session_of(id).ok_or_else(|| no_such(at, id))?;
        referred.entry(session).or_default().push((at, id.to_owned()));
    }
    let (mut bytes, mut room) = (0, READ_BYTES_MAX);
    for (session, references) in referred {
        let nowhere = || no_such(references[0].0, &references[0].1);
        let key = app.key(session);
        let handle = app.find(&key).await?.ok_or_else(nowhere)?;
        let known = all_within(&handle, &mut room).await?.ok_or_else(|| {
            let limit = format!("the conversations that items are referred to in are at most {READ_BYTES_MAX} bytes");
            Refusal::invalid("context_length_exceeded", "input", limit)
        })?;
        let known: HashMap<&str, &Value> =
            known.every().filter_map(|item| Some((item["id"].as_str()?, item))).collect();
        for (at, id) in &references {
            let item = known.get(id.as_str()).ok_or_else(|| no_such(*at, id))?;
            bytes += item.to_string().len();
            fits(bytes)?;
            items[*at] = (*item).clone();
        }
    }
    Ok(())
}
