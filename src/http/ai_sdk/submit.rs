//! What a client posts becomes commands of the session, and the response that it waits for.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    App, Command, Handle, Options, Problem,
    chat::Chat,
    give,
    play::{Played, Waiting},
};
use crate::{
    command::{Approve, COMMAND_BYTES_MAX, Deny, IfRunning, REASON_BYTES_MAX, Regenerate, Send, ToolResult},
    dialect::ai_sdk::request::{Anew, ClientAnswer, Intent, InvalidSubmission, Submission},
    digest::digest,
    http::{extract::Object, look},
    id::{CallId, CommandId, MessageId, RunId, SessionKey},
    registry::{NewSession, RegistryError},
    spec::{OnDisconnect, Params, Role, ToolSpec},
};

/// What a chat is to be, among whatever else an application sends. Read when the chat is created.
#[derive(Deserialize)]
pub(super) struct NewChat {
    model: Option<String>,
    system: Option<String>,
    #[serde(default)]
    tools: Vec<Object<ToolSpec>>,
    #[serde(default)]
    params: Params,
    #[serde(default)]
    metadata: Map<String, Value>,
    retention_s: Option<u64>,
    on_disconnect: Option<Object<OnDisconnect>>,
}

impl From<InvalidSubmission> for Problem {
    fn from(error: InvalidSubmission) -> Self {
        Self::new("invalid_request", error.to_string())
    }
}

/// Does what was posted; gives the response. When this returns, it is stored.
pub(super) async fn submit(
    app: &App,
    submission: Submission,
    new: NewChat,
    options: Options,
) -> Result<Played, Problem> {
    let id = submission.id.clone();
    let intent = submission.intent()?;
    let key = id.map_or_else(|| app.key(app.env.session_id()), |id| Chat::named(app.caller.tenant.clone(), &id).key);
    if !app.caller.sees(&key) {
        return Err(Problem::new("session_not_found", "there is no such chat"));
    }
    // Who will be told has a place before anything is done.
    let seat = app.seat(&key)?;
    let handle = chat(app, key, new, intent.can_begin()).await?;
    // Whoever posts is a reader already: a session that ends when its last one leaves must not end in between.
    let _here = handle.reader(handle.tail());
    let played = match intent {
        Intent::Say { content, message_id, history, anew } => {
            let command_id = match (&message_id, anew) {
                (None, _) | (_, Anew::Yes) => None,
                (Some(id), Anew::IfChanged | Anew::No) => Some(repeatable(&json!([id, content]))),
            };
            let replaces = message_id.clone().filter(|_| anew != Anew::No);
            let send = Send {
                command_id,
                content,
                if_running: IfRunning::Cancel,
                message_id,
                replaces,
                history,
                metadata: Map::new(),
            };
            say(handle.clone(), send, options).await
        }
        Intent::Regenerate { message_id, history } => {
            let regenerate = Regenerate { command_id: None, message_id, history };
            let receipt = give(&handle, Command::Regenerate(regenerate)).await?;
            let run = look::run_of(&handle, &receipt).await?;
            Played::run(handle.clone(), run, options).await
        }
        Intent::FollowUp { message_id, calls, answers } => {
            follow_up(handle.clone(), &message_id, &calls, answers, options).await
        }
    };
    Ok(played?.seated(seat))
}

/// The session of the chat, made if there is none.
async fn chat(app: &App, key: SessionKey, new: NewChat, can_begin: bool) -> Result<Handle, Problem> {
    if let Some(handle) = app.find(&key).await? {
        return with_model(handle, new.model.as_deref()).await;
    }
    if !can_begin {
        return Err(Problem::new("session_not_found", "there is no such chat"));
    }
    let session = NewSession {
        id: Some(key.session.clone()),
        model: new.model.clone(),
        system: new.system,
        tools: new.tools.into_iter().map(|tool| tool.0).collect(),
        inputs: Vec::new(),
        run_metadata: Map::new(),
        params: new.params,
        metadata: new.metadata,
        retention_s: new.retention_s,
        on_disconnect: new.on_disconnect.map(|wish| wish.0),
    };
    match app.create(session).await {
        // Somebody else was first.
        Err(RegistryError::Exists) => with_model(app.open(&key).await?, new.model.as_deref()).await,
        created => Ok(created?),
    }
}

/// A chat has one model: another one is refused rather than passed over.
async fn with_model(handle: Handle, wanted: Option<&str>) -> Result<Handle, Problem> {
    let Some(wanted) = wanted else { return Ok(handle) };
    let model = look::spec(&handle).await?.model;
    let is_it = model == wanted || model.split_once('/').is_some_and(|(_, name)| name == wanted);
    match is_it {
        true => Ok(handle),
        false => {
            Err(Problem::new("invalid_request", format!("this chat's model is {model}; another needs a new chat")))
        }
    }
}

/// A name for what is said, so that the same request again is the same command.
fn repeatable(said: &Value) -> CommandId {
    format!("say-{}", digest("say", said)).parse().expect("a fingerprint is a command id")
}

/// Says it. The same request again is answered with the run that it began.
async fn say(handle: Handle, mut send: Send, options: Options) -> Result<Played, Problem> {
    let mut given = give(&handle, Command::Send(send.clone())).await;
    if send.replaces.is_some() && given.as_ref().is_ok_and(|receipt| receipt.replayed) {
        // It was said so before. It may have been changed meanwhile, and changed back.
        match (spoken(&handle, &send).await?, handle.newest_run().await?) {
            (Spoken::Otherwise, _) => {
                send.command_id = None;
                given = give(&handle, Command::Send(send)).await;
            }
            (Spoken::Last, Some(newest)) => return Played::run(handle, newest.first, options).await,
            _ => {}
        }
    }
    let receipt = given.map_err(|problem| match problem.code {
        // The same message with another idea of what was before it.
        "command_conflict" => Problem::new("already_said", "a message of that name was said before"),
        _ => problem,
    })?;
    let run = look::run_of(&handle, &receipt).await?;
    Played::run(handle, run, options).await
}

/// What has become of a message that is said once more.
enum Spoken {
    /// It says something else now.
    Otherwise,
    /// It says the same, and nothing was said since.
    Last,
    /// It says the same, or is gone.
    Before,
}

async fn spoken(handle: &Handle, send: &Send) -> Result<Spoken, Problem> {
    #[derive(Deserialize)]
    struct Snapshot {
        messages: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        message_id: MessageId,
        role: Role,
        #[serde(default)]
        rolled_back: bool,
        content: Vec<Text>,
    }
    #[derive(Deserialize)]
    struct Text {
        #[serde(default)]
        text: String,
    }
    let snapshot = handle.snapshot().await?;
    let Snapshot { messages } = serde_json::from_str(snapshot.json.get()).expect("our own JSON");
    let mut inputs = messages.iter().rev().filter(|m| m.role == Role::User && !m.rolled_back).enumerate();
    let found = inputs.find(|(_, m)| Some(&m.message_id) == send.message_id.as_ref());
    Ok(match found {
        Some((_, m)) if m.content.first().is_some_and(|said| said.text != send.content) => Spoken::Otherwise,
        Some((0, _)) => Spoken::Last,
        _ => Spoken::Before,
    })
}

/// Gives the answers to what a run waits for. One that comes too late is no error, not even when there is a newer run: the
/// response tells what has happened instead.
async fn follow_up(
    handle: Handle,
    message_id: &str,
    calls: &[String],
    answers: Vec<ClientAnswer>,
    options: Options,
) -> Result<Played, Problem> {
    let results: HashSet<&str> = answers.iter().filter_map(ClientAnswer::result_of).collect();
    let decides = answers.iter().any(|answer| answer.result_of().is_none());
    let only_results = if decides { HashSet::new() } else { results.clone() };
    let run_id: Option<RunId> = message_id.parse().ok();
    let played = match look::run_at(&handle, run_id.as_ref()).await? {
        Some(run) => Played::after_pause(handle.clone(), run, calls, &only_results, options).await?,
        None => None,
    };
    let Some((mut played, waiting)) = played else {
        return Err(Problem::new("stale", "nothing in this chat waits for an answer; send a message"));
    };
    played.restate(results);
    let mut answered = HashSet::new();
    for answer in &answers {
        // What does not wait any more needs no command: the response tells what became of it. Nor does a call that the
        // client answers twice in one message.
        let call_id: CallId = match answer.call_id().parse() {
            Ok(call_id) if waiting.all.contains(&call_id) && !answered.contains(&call_id) => call_id,
            _ => continue,
        };
        let Some(command) = command(&waiting, &call_id, answer.clone())? else { continue };
        answered.insert(call_id);
        match give(&handle, command).await {
            Err(problem) if !NO_ERROR.contains(&problem.code) => return Err(problem),
            _ => {}
        }
    }
    Ok(played)
}

/// Refusals that are told by the response: somebody, or the time, was faster; or it is not the client's turn.
const NO_ERROR: [&str; 4] = ["already_resolved", "stale", "approval_pending", "not_a_client_tool"];

/// The command that gives an answer. `None` for one that nobody has asked for.
fn command(waiting: &Waiting, call_id: &CallId, answer: ClientAnswer) -> Result<Option<Command>, Problem> {
    let unknown = || Problem::new("unknown_approval", "this chat has no such approval");
    Ok(match answer {
        ClientAnswer::Decision { approval_id, approved: true, .. } => {
            let approval_id = approval_id.parse().map_err(|_| unknown())?;
            let (command_id, arguments, scope) = (None, None, Default::default());
            Some(Command::Approve(Approve { command_id, approval_id, arguments, scope }))
        }
        ClientAnswer::Decision { approval_id, reason, .. } => {
            let approval_id = approval_id.parse().map_err(|_| unknown())?;
            if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
                let limit = format!("a reason is at most {REASON_BYTES_MAX} bytes");
                return Err(Problem::new("payload_too_large", limit));
            }
            Some(Command::Deny(Deny { command_id: None, approval_id, message: reason }))
        }
        // The history says the same of tools that the server runs: what it says of those means nothing.
        ClientAnswer::Output { .. } if !waiting.results.contains(call_id) => None,
        ClientAnswer::Output { result, .. } => {
            let call_id = call_id.clone();
            let (output, error) = match result {
                Ok(output) => (Some(output), None),
                Err(error) => (None, Some(error)),
            };
            let length = output.as_ref().map_or(0, |output| output.to_string().len());
            if length.max(error.as_ref().map_or(0, String::len)) > COMMAND_BYTES_MAX {
                let limit = format!("the output of a tool is at most {COMMAND_BYTES_MAX} bytes");
                return Err(Problem::new("payload_too_large", limit));
            }
            Some(Command::ToolResult(ToolResult { command_id: None, call_id, output, error, metadata: Map::new() }))
        }
    })
}
