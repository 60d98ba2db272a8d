//! What a create asks for becomes a run: in a session of its own, in a conversation that there is, or as the next turn of
//! a run that waited for an answer.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::{
    App, Refusal,
    begin::{self, Key},
    chain,
    turn::{self, Found},
};
use crate::{
    command::{
        Approve, Command, Deny, IfIdle, IfRunning, InputMessage, Receipt, STEER_BYTES_MAX, Send, Steer, SteerWhen,
        ToolResult,
    },
    dialect::openai_responses::{
        ItemId,
        request::{ApprovalAnswer, Conversation, CreateRequest, Output, conversation},
    },
    digest::digest,
    http::{control::give, error::Problem, look},
    id::{CallId, SessionId},
    registry::NewSession,
    session::{Handle, MAILBOX_REQUESTS},
    spec::{Role, SessionSpec, ToolSpec},
};

/// How long a response that is not to be stored is kept after its end: long enough to come back to its stream.
const UNSTORED_RETENTION_S: u64 = 600;
/// Answers that are given at once: half of what a session has room for.
const GIVEN_TOGETHER: usize = MAILBOX_REQUESTS / 2;

/// Where a run says what its request was.
pub(super) const ECHO: &str = "openai";
/// Where it says in there that it is part of a conversation.
pub(super) const CONVERSATION: &str = "conversation";

/// Does what is asked for; gives the response. When this returns, it is stored.
pub(super) async fn respond(app: &App, mut request: CreateRequest, key: Option<Key>) -> Result<Found, Refusal> {
    // The same again is answered whatever has become of what it was made of.
    if let (Some(key), None) = (&key, &request.conversation)
        && let Some((handle, run)) = key.answered(app).await?
    {
        return Ok(Found::first(handle, run));
    }
    chain::resolve(app, &mut request.items).await?;
    let asked = conversation(news(&request.items))?;
    match request.conversation.clone() {
        within if !asked.approvals.is_empty() => {
            let previous = request.previous_response_id.as_ref().map(|previous| previous.session.clone());
            let knows_before =
                request.previous_response_id.is_some() || news(&request.items).len() < request.items.len();
            let says_next = !asked.inputs.is_empty() && knows_before && within.is_none();
            match go_on(app, asked, within.clone().or(previous), request.background).await {
                // A client that keeps the history sends the answer again with what is said next, also where the run that
                // had asked was stopped.
                Err(refusal) if says_next && NOT_WAITED_FOR.contains(&refusal.code()) => {
                    begin(app, key.as_ref().map(Key::session), request, key).await
                }
                gone_on => gone_on,
            }
        }
        Some(session) => say(app, session, request, asked, key).await,
        None => begin(app, key.as_ref().map(Key::session), request, key).await,
    }
}

/// Refusals of an answer that nobody waits for any more, though it is the one that was given.
const NOT_WAITED_FOR: [&str; 2] = ["stale", "no_active_run"];

/// The items that are said for the first time: a client that keeps the history itself sends all of it, and what follows
/// the last answer in it is new.
fn news(items: &[Value]) -> &[Value] {
    let is_answer = |item: &Value| match item["type"].as_str() {
        Some("message") => item["role"] == "assistant",
        Some("reasoning" | "function_call" | "mcp_call" | "mcp_list_tools" | "mcp_approval_request") => true,
        _ => false,
    };
    let known = items.iter().rposition(is_answer).map_or(0, |at| at + 1);
    &items[known..]
}

/// A session of its own, which begins with everything that was said before.
async fn begin(
    app: &App,
    session: Option<SessionId>,
    request: CreateRequest,
    key: Option<Key>,
) -> Result<Found, Refusal> {
    let mut chain = match &request.previous_response_id {
        Some(previous) => Some(chain::before(app, previous).await?),
        None => None,
    };
    let model = request.model.or_else(|| chain.as_ref().map(|chain| chain.model.clone()));
    let mut items = chain.as_mut().map(|chain| std::mem::take(&mut chain.items)).unwrap_or_default();
    let new = chain::without_repetitions(&items, request.items);
    items.extend(new);
    let inputs = conversation(&items)?.alone()?;
    if inputs.is_empty() {
        return Err(Refusal::invalid("missing_required_parameter", "input", "Missing required parameter: 'input'."));
    }
    let (model, params) = begin::settings(app, model.as_deref(), request.params, request.extra).await?;
    let mut tools = request.tools;
    if let Some(server_tools) = &request.server_tools {
        tools.extend(server_tools.specs(app.registry.own_tools())?);
    }
    let session = session.unwrap_or_else(|| app.env.session_id());
    let new = NewSession {
        id: Some(session.clone()),
        model: Some(model),
        system: request.instructions,
        tools,
        inputs,
        run_metadata: run_metadata(request.echo, request.conversation.as_ref(), key.as_ref()),
        params,
        metadata: request.metadata,
        retention_s: (!request.store).then_some(UNSTORED_RETENTION_S),
        on_disconnect: None,
    };
    // The name of a conversation is no name of a request: whoever asks for it looks whether it is theirs.
    let key = key.filter(|_| request.conversation.is_none());
    let seat = (!request.background).then(|| app.seat(&app.key(session))).transpose()?;
    let handle = begin::create(app, new, key).await?;
    if let Some(chain) = chain {
        chain.take_steers().await;
    }
    let run = handle.newest_run().await?.and_then(|run| handle.event_id(run.first));
    let run = run.ok_or_else(|| Problem::new("internal", "the session has begun no run"))?;
    Ok(Found::first(handle, run).seated(seat))
}

fn run_metadata(
    mut echo: Map<String, Value>,
    conversation: Option<&SessionId>,
    key: Option<&Key>,
) -> Map<String, Value> {
    let mut metadata = key.map(Key::note).unwrap_or_default();
    if let Some(conversation) = conversation {
        echo.insert(CONVERSATION.to_owned(), json!({"id": conversation}));
    }
    metadata.insert(ECHO.to_owned(), echo.into());
    metadata
}

/// A run of a conversation that there is, or that this begins.
async fn say(
    app: &App,
    session: SessionId,
    request: CreateRequest,
    asked: Conversation,
    key: Option<Key>,
) -> Result<Found, Refusal> {
    let session_key = app.key(session.clone());
    let Some(handle) = app.find(&session_key).await? else {
        return match begin(app, Some(session), request.clone(), key.clone()).await {
            // Somebody else was first.
            Err(refusal) if refusal.code() == "session_exists" => {
                said(app, app.open(&session_key).await?, request, asked, key).await
            }
            begun => begun,
        };
    };
    said(app, handle, request, asked, key).await
}

async fn said(
    app: &App,
    handle: Handle,
    request: CreateRequest,
    asked: Conversation,
    key: Option<Key>,
) -> Result<Found, Refusal> {
    // Whoever posts is a reader already: a session that ends when its last one leaves must not end in between.
    let _here = handle.reader(handle.tail());
    let seat = (!request.background).then(|| app.seat(handle.key())).transpose()?;
    if let Some(key) = &key
        && let Some(run) = key.run_in(&handle).await?
    {
        return Ok(Found::first(handle, run).seated(seat));
    }
    let spec = look::spec(&handle).await?;
    keeps_settings(&spec, &request)?;
    keeps_server_tools(app, &spec, &request)?;
    let content = content(asked.inputs)?;
    let open = turn::waiting(&handle).await?;
    let metadata = run_metadata(request.echo, request.conversation.as_ref(), key.as_ref());
    if !open.calls.is_empty() || !asked.outputs.is_empty() {
        all_answered(&open.calls, &asked.outputs)?;
        return Ok(answer(handle, content, asked.outputs, Vec::new(), &metadata).await?.seated(seat));
    }
    let Some(content) = content else {
        return Err(Refusal::invalid("missing_required_parameter", "input", "Missing required parameter: 'input'."));
    };
    let command_id = key.as_ref().and_then(|key| key.session().as_str().parse().ok());
    let send = Send { command_id, content, if_running: IfRunning::Reject, metadata, ..Send::default() };
    let receipt = match give(&handle, Command::Send(send)).await {
        Err(problem) if problem.code == "command_conflict" => return Err(begin::reused()),
        given => given?,
    };
    let run = look::run_of(&handle, &receipt).await?;
    Ok(turn::at(handle, run, receipt.seq).await?.seated(seat))
}

/// A conversation keeps what it was made with: another wish is refused rather than passed over.
fn keeps_settings(spec: &SessionSpec, request: &CreateRequest) -> Result<(), Refusal> {
    let other = |param: &str, is: &str| {
        let message = format!("this conversation keeps the {param} that it began with{is}; begin another one");
        Err(Refusal::invalid("unsupported_value", param, message))
    };
    let is_model =
        |wanted: &str| spec.model == wanted || spec.model.split_once('/').is_some_and(|(_, name)| name == wanted);
    if request.model.as_deref().is_some_and(|wanted| !is_model(wanted)) {
        return other("model", &format!(", {}", spec.model));
    }
    if request.instructions.is_some() && request.instructions != spec.system {
        return other("instructions", "");
    }
    let known =
        |tool: &ToolSpec| spec.tools.iter().any(|own| own.name == tool.name && own.parameters == tool.parameters);
    if !request.tools.iter().all(known) {
        return other("tools", "");
    }
    // Without tools there is nothing to choose.
    if request.echo.get("tool_choice").is_some_and(|choice| choice == "none") && !spec.tools.is_empty() {
        return other("tool_choice", "");
    }
    let (asked, own) = (&request.params, &spec.params);
    let differs = [
        ("temperature", asked.temperature.is_some() && asked.temperature != own.temperature),
        ("top_p", asked.top_p.is_some() && asked.top_p != own.top_p),
        ("max_output_tokens", asked.max_tokens.is_some() && asked.max_tokens != own.max_tokens),
        ("stop", !asked.stop.is_empty() && asked.stop != own.stop),
        ("seed", asked.seed.is_some() && asked.seed != own.seed),
    ];
    if let Some((param, _)) = differs.iter().find(|(_, differs)| *differs) {
        return other(param, "");
    }
    let provider = spec.model.split_once('/').map_or("", |(provider, _)| provider);
    let is_kept = |name: &str, value: &Value| match name {
        begin::RATE => value.as_f64() == own.tokens_per_second,
        _ => own.extra.get(provider).and_then(|extra| extra.get(name)) == Some(value),
    };
    match request.extra.iter().find(|(name, value)| !is_kept(name, value)) {
        None => Ok(()),
        Some((name, _)) => match name.as_str() {
            "reasoning_effort" => other("reasoning", ""),
            "response_format" | "verbosity" => other("text", ""),
            name => other(name, ""),
        },
    }
}

/// The same of the server's tools: those that it has, and a person is asked for the same ones.
fn keeps_server_tools(app: &App, spec: &SessionSpec, request: &CreateRequest) -> Result<(), Refusal> {
    let Some(server_tools) = &request.server_tools else { return Ok(()) };
    let is_kept = |tool: &ToolSpec| {
        spec.tools.iter().any(|own| own.name == tool.name && own.needs_approval() == tool.needs_approval())
    };
    if server_tools.specs(app.registry.own_tools())?.iter().all(is_kept) {
        return Ok(());
    }
    let message = "this conversation keeps the tools that it began with; begin another one";
    Err(Refusal::invalid("unsupported_value", "tools", message))
}

/// What a user says in a conversation that goes on: nobody else says anything there.
fn content(inputs: Vec<InputMessage>) -> Result<Option<String>, Refusal> {
    if inputs.iter().any(|input| input.role != Role::User) {
        let message = "a conversation that goes on is told what its user says and what its functions gave; \
                       instructions and answers belong to its beginning";
        return Err(Refusal::invalid("unsupported_value", "input", message));
    }
    let texts: Vec<String> = inputs.into_iter().map(|input| input.content).collect();
    Ok((!texts.is_empty()).then(|| texts.join("\n\n")))
}

/// Every call that waits for its result gets one, and no other call does.
fn all_answered(open: &[(CallId, String)], outputs: &[Output]) -> Result<(), Refusal> {
    let invalid = |message| Err(Refusal::invalid("invalid_value", "input", message));
    if let Some((call, _)) = open.iter().find(|(call, _)| !outputs.iter().any(|output| output.call_id == *call)) {
        return invalid(format!("No tool output found for function call {call}."));
    }
    Ok(())
}

/// The run that waits for a person goes on, with what else was said. The same answers again are the same response.
async fn go_on(app: &App, asked: Conversation, within: Option<SessionId>, background: bool) -> Result<Found, Refusal> {
    let session = &asked.approvals[0].approval_request_id.session;
    if asked.approvals.iter().any(|answer| answer.approval_request_id.session != *session) {
        return Err(Refusal::invalid("invalid_value", "input", "the approval requests are of different conversations"));
    }
    if within.is_some_and(|within| within != *session) {
        let message = format!("the approval request is of the conversation {session}, and is answered there");
        return Err(Refusal::invalid("invalid_value", "input", message));
    }
    let key = app.key(session.clone());
    let no_such = || {
        Refusal::invalid(
            "invalid_value",
            "input",
            "there is no approval request of that id, or none that can be answered",
        )
    };
    let handle = app.find(&key).await?.ok_or_else(no_such)?;
    let _here = handle.reader(handle.tail());
    let seat = (!background).then(|| app.seat(handle.key())).transpose()?;
    let content = content(asked.inputs)?;
    Ok(answer(handle, content, asked.outputs, asked.approvals, &Map::new()).await?.seated(seat))
}

/// Gives the answers to what a run waits for, and before them what is said with them: the model hears it together.
async fn answer(
    handle: Handle,
    content: Option<String>,
    outputs: Vec<Output>,
    approvals: Vec<ApprovalAnswer>,
    metadata: &Map<String, Value>,
) -> Result<Found, Refusal> {
    let mut commands: Vec<Command> = Vec::new();
    for ApprovalAnswer { approval_request_id, approve, reason } in approvals {
        let ItemId { event, .. } = approval_request_id;
        let approval_id = format!("apr_{}_{}", event.epoch, event.seq)
            .parse()
            .map_err(|_| Refusal::invalid("invalid_value", "input", "an approval_request_id is as it was sent"))?;
        commands.push(match approve {
            true => {
                Command::Approve(Approve { command_id: None, approval_id, arguments: None, scope: Default::default() })
            }
            false => Command::Deny(Deny { command_id: None, approval_id, message: reason }),
        });
    }
    for Output { call_id, output } in outputs {
        commands.push(Command::ToolResult(ToolResult {
            command_id: None,
            call_id,
            output: Some(output),
            error: None,
            metadata: metadata.clone(),
        }));
    }
    each_once(&commands)?;
    let digests: Vec<_> = commands.iter().map(Command::digest).collect();
    let open = turn::waiting(&handle).await?;
    let waits = |command: &Command| match command {
        Command::Approve(Approve { approval_id, .. }) | Command::Deny(Deny { approval_id, .. }) => {
            open.approvals.iter().any(|(open, _)| open == approval_id)
        }
        Command::ToolResult(ToolResult { call_id, .. }) => open.calls.iter().any(|(open, _)| open == call_id),
        _ => true,
    };
    let (mut commands, answered): (Vec<_>, Vec<_>) = commands.into_iter().partition(waits);
    // What is approved runs while the rest is answered; a refusal is told in the response that goes on.
    commands.sort_by_key(|command| match command {
        Command::Approve(_) => 0,
        Command::Deny(_) => 2,
        _ => 1,
    });
    // What waits for no answer has had one. The same again is well; another is refused before anything is done.
    let mut receipts = give_all(&handle, answered).await?;
    if let Some(content) = content {
        if content.len() > STEER_BYTES_MAX {
            let limit = format!("what is said with an answer is at most {STEER_BYTES_MAX} bytes");
            return Err(Problem::new("payload_too_large", limit).into());
        }
        // A name of its own, so that the same request again does not say it twice.
        let named = json!([content, digests]);
        let command_id = format!("with-{}", digest("with", &named)).parse().ok();
        let steer = Steer { command_id, content, when: SteerWhen::NextStep, if_idle: IfIdle::Reject };
        give(&handle, Command::Steer(steer)).await.map_err(not_answered)?;
    }
    receipts.extend(give_all(&handle, commands).await?);
    let last = receipts.into_iter().max_by_key(|receipt| receipt.seq);
    let receipt = last.ok_or_else(|| Problem::new("internal", "nothing was answered"))?;
    let run = look::run_of(&handle, &receipt).await?;
    turn::at(handle, run, receipt.seq).await
}

/// Whether each request and each call is answered once.
fn each_once(commands: &[Command]) -> Result<(), Refusal> {
    let mut answered = HashSet::new();
    let is_new = |command: &Command| match command {
        Command::Approve(Approve { approval_id, .. }) | Command::Deny(Deny { approval_id, .. }) => {
            answered.insert(approval_id.to_string())
        }
        Command::ToolResult(ToolResult { call_id, .. }) => answered.insert(call_id.to_string()),
        _ => true,
    };
    match commands.iter().all(is_new) {
        true => Ok(()),
        false => Err(Refusal::invalid("invalid_value", "input", "each request and each call is answered once")),
    }
}

/// Gives them side by side: a tool that ends fast must not find the next one still waiting, which would be a response by
/// itself.
async fn give_all(handle: &Handle, commands: Vec<Command>) -> Result<Vec<Receipt>, Refusal> {
    let mut given = Vec::new();
    let mut rest = commands.into_iter().peekable();
    while rest.peek().is_some() {
        let together = rest.by_ref().take(GIVEN_TOGETHER).map(|command| give(handle, command));
        given.extend(join_all(together).await);
    }
    let receipts: Result<Vec<Receipt>, Problem> = given.into_iter().collect();
    receipts.map_err(not_answered)
}

/// An answer that nobody waits for is a mistake in the request, whatever is missing.
fn not_answered(problem: Problem) -> Refusal {
    match problem.code {
        "unknown_approval" | "unknown_call" | "already_resolved" | "stale" | "no_active_run" | "approval_pending" => {
            Refusal::invalid(problem.code, "input", problem.detail)
        }
        _ => problem.into(),
    }
}
