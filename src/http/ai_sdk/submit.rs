//! What a client posts becomes commands of the session, and the response that it waits for.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    App, Command, Handle, NewestRun, Options, Problem, Tenant,
    chat::{self, Chat},
    give,
    play::{self, Played},
};
use crate::{
    command::{Approve, COMMAND_BYTES_MAX, Deny, IfRunning, REASON_BYTES_MAX, Receipt, Regenerate, Send, ToolResult},
    dialect::ai_sdk::request::{ClientAnswer, Intent, InvalidSubmission, Submission},
    digest::digest,
    event::Event,
    http::{ANONYMOUS, extract::Object},
    id::{CallId, CommandId, EventId, RunId, Seq},
    registry::{NewSession, RegistryError},
    session::state::Reply,
    spec::{OnDisconnect, Params, ToolSpec},
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
    let may_create = !matches!(intent, Intent::FollowUp { .. });
    let handle = chat(app, id.as_deref(), new, may_create).await?;
    match intent {
        Intent::Say { content, message_id, history, anew } => {
            let named = message_id.as_ref().filter(|_| !anew);
            let command_id = named.map(|id| repeatable(&json!([id, content])));
            let send = Send { command_id, content, if_running: IfRunning::Cancel, message_id, history };
            say(handle, send, options).await
        }
        Intent::Regenerate { message_id, history } => {
            let regenerate = Regenerate { command_id: None, message_id, history };
            let receipt = give(&handle, Command::Regenerate(regenerate)).await?;
            let run = run_of(&handle, &receipt).await?;
            Played::run(handle, run, options).await
        }
        Intent::FollowUp { message_id, calls, answers } => {
            follow_up(handle, &message_id, &calls, answers, options).await
        }
    }
}

/// The session of the chat, made if there is none.
async fn chat(app: &App, id: Option<&str>, new: NewChat, may_create: bool) -> Result<Handle, Problem> {
    let key = id.map_or_else(|| chat::key(app.env.session_id()), |id| Chat::named(id).key);
    if let Some(handle) = app.find(&key).await? {
        return with_model(handle, new.model.as_deref()).await;
    }
    if !may_create {
        return Err(Problem::new("session_not_found", "there is no such chat"));
    }
    let session = NewSession {
        id: Some(key.session.clone()),
        model: new.model.clone(),
        system: new.system,
        tools: new.tools.into_iter().map(|tool| tool.0).collect(),
        inputs: Vec::new(),
        params: new.params,
        metadata: new.metadata,
        retention_s: new.retention_s,
        on_disconnect: new.on_disconnect.map(|wish| wish.0),
    };
    match app.registry.create(Tenant::default(), session).await {
        // Somebody else was first.
        Err(RegistryError::Exists) => with_model(app.open(&key).await?, new.model.as_deref()).await,
        created => Ok(created?),
    }
}

/// A chat has one model: another one is refused rather than passed over.
async fn with_model(handle: Handle, wanted: Option<&str>) -> Result<Handle, Problem> {
    let Some(wanted) = wanted else { return Ok(handle) };
    let model = play::spec(&handle).await?.model;
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

/// Says it. The same POST again is answered with the run that it began, unless something else was said since.
async fn say(handle: Handle, mut send: Send, options: Options) -> Result<Played, Problem> {
    if send.command_id.is_some() {
        match handle.command(Command::Send(send.clone()), ANONYMOUS.to_owned()).await? {
            Reply::Receipt(receipt) if receipt.reason.is_none() => {
                let run = run_of(&handle, &receipt).await?;
                let newest = handle.newest_run().await?;
                if !receipt.replayed || newest.is_some_and(|newest| newest.first == run) {
                    return Played::run(handle, run, options).await;
                }
            }
            // The id is taken, or the session has no room: said again without it, and told why if that is refused, too.
            Reply::Receipt(_) | Reply::Conflict(_) | Reply::Full(_) => {}
        }
    }
    send.command_id = None;
    let receipt = give(&handle, Command::Send(send)).await?;
    let run = run_of(&handle, &receipt).await?;
    Played::run(handle, run, options).await
}

/// Position of the first event of the run that a command has begun.
async fn run_of(handle: &Handle, receipt: &Receipt) -> Result<Seq, Problem> {
    let run_id = match play::event_at(handle, receipt.seq).await? {
        Some(Event::CommandApplied { run_id, .. }) => run_id,
        _ => None,
    };
    let first = run_id.as_ref().and_then(RunId::first_event);
    let at = first.and_then(|first: EventId| handle.locate(first).ok());
    at.ok_or_else(|| Problem::new("internal", "the command has begun no run"))
}

/// Gives the answers to what the newest run waits for. One that comes too late is no error: the response tells what has
/// happened instead.
async fn follow_up(
    handle: Handle,
    message_id: &str,
    calls: &[String],
    answers: Vec<ClientAnswer>,
    options: Options,
) -> Result<Played, Problem> {
    let newest = handle.newest_run().await?;
    let Some(NewestRun { first, .. }) = newest.filter(|run| run.run_id.as_str() == message_id) else {
        return Err(Problem::new("stale", "this answer is not the newest of the chat"));
    };
    let Some((played, waiting)) = Played::after_pause(handle.clone(), first, calls, options).await? else {
        return Err(Problem::new("stale", "nothing in this chat waits for an answer; send a message"));
    };
    for answer in answers {
        let Some(command) = command(&waiting, answer)? else { continue };
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
fn command(waiting: &[CallId], answer: ClientAnswer) -> Result<Option<Command>, Problem> {
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
        ClientAnswer::Output { call_id, result } => {
            // The history says the same of tools that the server ran: what it says of those means nothing.
            let call_id: CallId = match call_id.parse() {
                Ok(call_id) if waiting.contains(&call_id) => call_id,
                _ => return Ok(None),
            };
            let (output, error) = match result {
                Ok(output) => (Some(output), None),
                Err(error) => (None, Some(error)),
            };
            let length = output.as_ref().map_or(0, |output| output.to_string().len());
            if length.max(error.as_ref().map_or(0, String::len)) > COMMAND_BYTES_MAX {
                let limit = format!("the output of a tool is at most {COMMAND_BYTES_MAX} bytes");
                return Err(Problem::new("payload_too_large", limit));
            }
            Some(Command::ToolResult(ToolResult { command_id: None, call_id, output, error }))
        }
    })
}
