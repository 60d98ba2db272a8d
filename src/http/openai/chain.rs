//! What was said before a response: the items of the chain, items that are only referred to, what a run waits for.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Refusal, turn};
use crate::{
    command::{Command, CommandKind, Withdraw},
    dialect::openai_responses::{ItemId, Items, ResponseId},
    http::{control::give, error::Problem, events::WRITE_BYTES_MAX, look},
    id::{CommandId, Seq, SessionId, SessionKey, Tenant},
    session::Handle,
    spec::clip,
};

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
    let mut items = all(&handle).await?.through(previous).ok_or_else(|| {
        let message = format!("Previous response with id '{name}' has not ended.");
        Refusal::invalid("previous_response_in_progress", "previous_response_id", message)
    })?;
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
                tracing::debug!(session = %self.handle.key(), %command_id, problem.code, "a steer was not taken along");
            }
        }
    }
}

/// Every item of a session.
pub(super) async fn all(handle: &Handle) -> Result<Items, Refusal> {
    let mut items = Items::new(handle.key().session.clone());
    let mut reader = handle.reader(Seq::ZERO);
    while let Some(frames) = reader.ready(WRITE_BYTES_MAX).await.map_err(Problem::from)? {
        if frames.is_empty() {
            break;
        }
        for frame in frames {
            items.push(&frame).map_err(look::unreadable)?;
        }
    }
    Ok(items)
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

/// Puts the items that are only referred to in their places.
pub(super) async fn resolve(app: &App, items: &mut [Value]) -> Result<(), Refusal> {
    let mut known: HashMap<SessionId, Items> = HashMap::new();
    for (at, item) in items.iter_mut().enumerate() {
        if item["type"] != "item_reference" {
            continue;
        }
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let no_such = || {
            let message = format!("Item with id '{}' not found.", clip(&id, 160));
            Refusal::not_found(&format!("input[{at}].id"), message)
        };
        let name: ItemId = id.parse().map_err(|_| no_such())?;
        if !known.contains_key(&name.session) {
            let key = SessionKey { tenant: Tenant::default(), session: name.session.clone() };
            let handle = app.find(&key).await?.ok_or_else(no_such)?;
            known.insert(name.session.clone(), all(&handle).await?);
        }
        let found = known[&name.session].every().find(|item| item["id"] == id);
        *item = found.cloned().ok_or_else(no_such)?;
    }
    Ok(())
}
