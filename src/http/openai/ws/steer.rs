//! `response.steer`: something is said to a response that goes on, and what becomes of it is told.
//!
//! Accepted means that the session has it, durably. Where a model call is open it is cut there and then: the response ends
//! as `incomplete`, and its successor is the commit point. Between model calls it waits for the next one; and where the run
//! waits for its client it is said with the answer.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{App, Refusal};
use crate::{
    command::{Command, IfIdle, STEER_BYTES_MAX, Status, Steer, SteerWhen},
    dialect::openai_responses::{ItemId, ResponseId, Waiting, request},
    http::{
        control::give,
        look,
        openai::turn::{self, Found},
    },
    id::CommandId,
    spec::{Role, clip},
};

/// Steers of one socket that are watched; of more it is not told that they wait.
const WATCHED_MAX: usize = 64;

/// The steers of one socket.
#[derive(Clone, Default)]
pub(super) struct Steers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The responses that are told, with their lanes.
    told: Vec<(ResponseId, Option<String>)>,
    /// Accepted, and not yet said.
    watched: Vec<Watched>,
    /// How many events of ours there were.
    count: u64,
}

#[derive(Clone)]
struct Watched {
    id: CommandId,
    previous: ResponseId,
    input: Value,
}

/// Why a steer fails.
struct Failed {
    code: &'static str,
    message: String,
}

fn failed(code: &'static str, message: impl Into<String>) -> Failed {
    Failed { code, message: message.into() }
}

fn is_same_run(a: &ResponseId, b: &ResponseId) -> bool {
    (&a.session, a.run) == (&b.session, b.run)
}

impl Steers {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the steers are held")
    }

    /// A response is told on that lane from now on.
    pub(super) fn begin(&self, id: &ResponseId, lane: Option<&str>) {
        self.lock().told.push((id.clone(), lane.map(str::to_owned)));
    }

    /// It is told to its end. Gives what is to be said of the steers that were not said to the model: that they wait for
    /// its client, or that they came to nothing.
    pub(super) async fn end(&self, found: &Found) -> Vec<String> {
        let watched: Vec<Watched> = {
            let mut state = self.lock();
            let (ours, others) = state.watched.drain(..).partition(|steer| is_same_run(&steer.previous, &found.id));
            state.watched = others;
            ours
        };
        let mut messages = Vec::new();
        for steer in watched {
            match fate(found, &steer.id).await {
                Fate::Said => {}
                Fate::Waits => {
                    if let Ok(waiting) = turn::waiting(&found.handle).await {
                        messages.push(self.pending(&steer.id, &steer.previous, &waiting));
                    }
                }
                Fate::Returned => {
                    let failure = failed("response_not_active", "the run ended before it was said");
                    messages.push(self.failed(Some(&steer.id), &steer.previous.to_string(), steer.input, &failure));
                }
            }
        }
        self.lock().told.retain(|(id, _)| *id != found.id);
        messages
    }

    /// Steers; gives the answers.
    pub(super) async fn steer(&self, app: &App, body: Value) -> Vec<String> {
        let previous = body["previous_response_id"].as_str().unwrap_or_default().to_owned();
        let input = body["input"].clone();
        match self.try_steer(app, &body, &previous).await {
            Ok(answers) => answers,
            Err(failure) => vec![self.failed(None, &previous, input, &failure)],
        }
    }

    async fn try_steer(&self, app: &App, body: &Value, previous: &str) -> Result<Vec<String>, Failed> {
        let known = ["previous_response_id", "input"];
        if let Some((other, _)) =
            body.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()))
        {
            let message = format!("response.steer has previous_response_id and input, and no {}", clip(other, 64));
            return Err(failed("invalid_input", message));
        }
        let content = content(body["input"].clone())?;
        if !body["previous_response_id"].is_string() {
            return Err(failed("invalid_input", "previous_response_id is the name of a response"));
        }
        let not_found = || failed("response_not_found", "there is no such response");
        let found = turn::find(app, previous).await.map_err(|_| not_found())?;
        let unreadable = |refusal: Refusal| failed("response_not_active", refusal.message());
        found.clone().now().await.map_err(unreadable)?.ok_or_else(not_found)?;
        let has_ended = || failed("response_already_completed", "the response has ended");
        // Whoever steers twice in a row names a response that the first one has ended.
        let current = found.current().await.map_err(unreadable)?.ok_or_else(has_ended)?;
        let turn = current.now().await.map_err(unreadable)?.ok_or_else(has_ended)?;
        let waiting = turn.waiting();
        let waits = turn.has_ended() && !waiting.is_empty();
        if turn.has_ended() && !waits {
            return Err(has_ended());
        }
        let steer = Steer { command_id: None, content, when: SteerWhen::Now, if_idle: IfIdle::Reject };
        let given = give(&found.handle, Command::Steer(steer)).await;
        let receipt = given.map_err(|problem| match problem.code {
            "no_active_run" => failed("response_already_completed", "the response has ended"),
            "too_many_pending" => failed("too_many_pending_steers", problem.detail),
            _ => failed("response_not_active", problem.detail),
        })?;
        let (id, previous) = (receipt.command_id, found.id);
        let steer = json!({"id": id, "previous_response_id": previous.to_string()});
        let mut answers = vec![self.event("response.steer.accepted", &previous, json!({"steer": steer}))];
        if waits {
            answers.push(self.pending(&id, &previous, &waiting));
        } else if receipt.status == Status::Accepted {
            let input = body["input"].clone();
            let mut state = self.lock();
            // What a lane tells to its end is told of the steer, too; nobody does of another response.
            let is_told = state.told.iter().any(|(id, _)| is_same_run(id, &previous));
            if is_told && state.watched.len() < WATCHED_MAX {
                state.watched.push(Watched { id, previous, input });
            }
        }
        Ok(answers)
    }

    fn pending(&self, id: &CommandId, previous: &ResponseId, waiting: &Waiting) -> String {
        let calls = waiting
            .calls
            .iter()
            .map(|(call_id, name)| json!({"type": "function_call_output", "call_id": call_id, "name": name}));
        let approvals = waiting.approvals.iter().filter_map(|(approval_id, _)| {
            let request_id = ItemId::of_approval(previous.session.clone(), approval_id)?;
            Some(json!({"type": "mcp_approval_response", "approval_request_id": request_id.to_string()}))
        });
        let required: Vec<Value> = calls.chain(approvals).collect();
        let steer = json!({"id": id, "previous_response_id": previous.to_string()});
        let fields = json!({"steer": steer, "reason": "waiting_for_required_input", "required_input": required});
        self.event("response.steer.pending", previous, fields)
    }

    fn failed(&self, id: Option<&CommandId>, previous: &str, input: Value, failure: &Failed) -> String {
        let mut steer = json!({"previous_response_id": previous, "input": input});
        if let Some(id) = id {
            steer["id"] = json!(id);
        }
        let error = json!({"type": "invalid_request_error", "code": failure.code, "message": failure.message});
        let fields = json!({"steer": steer, "error": error});
        match previous.parse() {
            Ok(previous) => self.event("response.steer.failed", &previous, fields),
            Err(_) => self.numbered("response.steer.failed", None, fields),
        }
    }

    /// An event, on the lane of the response that it is about.
    fn event(&self, kind: &str, previous: &ResponseId, fields: Value) -> String {
        let lane = {
            let state = self.lock();
            let told = state.told.iter().rev().find(|(id, _)| is_same_run(id, previous));
            told.and_then(|(_, lane)| lane.clone())
        };
        self.numbered(kind, lane, fields)
    }

    /// These events are of no response's numbers: those are positions in its log. They count by themselves.
    fn numbered(&self, kind: &str, lane: Option<String>, mut fields: Value) -> String {
        let number = {
            let mut state = self.lock();
            state.count += 1;
            state.count - 1
        };
        fields["type"] = kind.into();
        fields["sequence_number"] = number.into();
        if let Some(lane) = lane {
            fields["stream_id"] = lane.into();
        }
        fields.to_string()
    }
}

/// What a steer says: texts of a user.
fn content(input: Value) -> Result<String, Failed> {
    let invalid = |message: String| failed("invalid_input", message);
    let items = request::input(input).map_err(|error| invalid(error.message))?;
    let said = request::conversation(&items).map_err(|error| invalid(error.message))?;
    let only_users = said.inputs.iter().all(|input| input.role == Role::User);
    if !only_users || !said.approvals.is_empty() || !said.outputs.is_empty() || said.inputs.is_empty() {
        return Err(invalid("input is a text, or messages of the user role".into()));
    }
    let texts: Vec<String> = said.inputs.into_iter().map(|input| input.content).collect();
    let content = texts.join("\n\n");
    match content.len() {
        0 => Err(invalid("input is empty".into())),
        length if length > STEER_BYTES_MAX => Err(invalid(format!("input is at most {STEER_BYTES_MAX} bytes"))),
        _ => Ok(content),
    }
}

/// What has become of an accepted steer.
enum Fate {
    /// It is in the conversation, and its response has begun; or nobody knows any more.
    Said,
    /// It waits.
    Waits,
    /// It was given back when the run ended.
    Returned,
}

async fn fate(found: &Found, id: &CommandId) -> Fate {
    #[derive(serde::Deserialize)]
    struct Named {
        command_id: CommandId,
    }
    let mut reader = found.handle.reader(found.run);
    let mut fate = Fate::Waits;
    while let Ok(Some(frames)) = look::ready(&mut reader).await {
        for frame in frames {
            let then = match frame.kind() {
                "command.applied" => Fate::Said,
                "command.withdrawn" => Fate::Returned,
                _ => continue,
            };
            if serde_json::from_slice::<Named>(&frame.json()).is_ok_and(|named| named.command_id == *id) {
                fate = then;
            }
        }
    }
    fate
}
