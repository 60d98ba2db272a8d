//! A client that gives random commands, each perhaps twice, perhaps cut and retried, perhaps under a used name.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, time::sleep};

use super::World;
use crate::support::{client::Answer, socket};

/// A command and every receipt that was given for it.
pub(super) struct Given {
    pub(super) session: String,
    pub(super) command: Value,
    pub(super) receipts: Vec<Value>,
}

impl Given {
    pub(super) fn id(&self) -> &str {
        self.command["command_id"].as_str().unwrap()
    }
}

/// The client.
pub(super) struct Controller {
    name: String,
    world: World,
    rng: fastrand::Rng,
    given: Vec<Given>,
    /// Approvals that were seen open, by session: they may be answered again.
    seen: Vec<(String, Value)>,
}

/// The receipt in an answer, of a success or of a refusal; `replayed` is taken out.
fn receipt(mut message: Value) -> Value {
    if message.get("receipt").is_some() {
        message = message["receipt"].take();
    }
    let fields = message.as_object_mut().unwrap();
    fields.remove("replayed");
    fields.remove("type");
    assert!(fields.contains_key("seq"), "{message}");
    message
}

impl Controller {
    pub(super) fn new(name: String, world: World, seed: u64) -> Self {
        Self { name, world, rng: fastrand::Rng::with_seed(seed), given: Vec::new(), seen: Vec::new() }
    }

    /// Gives so many commands.
    pub(super) async fn run(mut self, commands: usize) -> Vec<Given> {
        for n in 0..commands {
            sleep(Duration::from_millis(match self.rng.u8(0..3) {
                0 => self.rng.u64(0..10),
                1 => self.rng.u64(0..500),
                _ => self.rng.u64(0..4_000),
            }))
            .await;
            let session = self.world.sessions[self.rng.usize(..self.world.sessions.len())].clone();
            let mut command = self.command(&session).await;
            command["command_id"] = json!(format!("{}-{n}", self.name));
            let receipts = self.give(&session, &command).await;
            self.world.trace.note(&self.name, format_args!("{command} -> {:?}", receipts.iter().map(Value::to_string)));
            self.given.push(Given { session, command, receipts });
            if self.rng.u8(0..3) == 0 {
                self.give_again().await;
            }
        }
        self.given
    }

    async fn command(&mut self, session: &str) -> Value {
        let snapshot = self.world.client.snapshot(session).await;
        let rng = &mut self.rng;
        let approvals = snapshot["approvals"].as_array().unwrap();
        self.seen.extend(approvals.iter().map(|approval| (session.to_owned(), approval["approval_id"].clone())));
        let seen: Vec<&Value> = self.seen.iter().filter(|(of, _)| of == session).map(|(_, id)| id).collect();
        if !seen.is_empty() && rng.u8(0..4) > u8::from(approvals.is_empty()) * 2 {
            let approval = seen[seen.len() - 1 - rng.usize(..seen.len().min(3))];
            return match rng.u8(0..8) {
                0 | 1 => json!({"type": "deny", "approval_id": approval}),
                2 => json!({"type": "deny", "approval_id": approval, "message": "not now"}),
                3 => json!({"type": "approve", "approval_id": approval, "arguments": {"city": "Oslo"}}),
                4 => json!({"type": "approve", "approval_id": approval, "arguments": {"city": 7}}),
                5 => json!({"type": "approve", "approval_id": approval, "scope": "session"}),
                _ => json!({"type": "approve", "approval_id": approval}),
            };
        }
        let parts = snapshot["messages"].as_array().unwrap().iter().filter_map(|message| message["content"].as_array());
        let calls: Vec<&Value> = parts.flatten().filter(|part| part["type"] == "tool_call").collect();
        if !calls.is_empty() && rng.u8(0..3) == 0 {
            let open: Vec<&&Value> = calls.iter().filter(|call| call["state"] == "ready").collect();
            let call = if open.is_empty() { calls[rng.usize(..calls.len())] } else { open[rng.usize(..open.len())] };
            let call_id = &call["call_id"];
            return match rng.bool() {
                true => json!({"type": "tool_result", "call_id": call_id, "output": [1, null]}),
                false => json!({"type": "tool_result", "call_id": call_id, "error": "no"}),
            };
        }
        let content = ["shorter, in French", "weiter — 続けて", "stop that"][rng.usize(..3)];
        match rng.u8(0..16) {
            0..6 => {
                let if_running = ["queue", "queue", "steer", "cancel", "reject"][rng.usize(..5)];
                json!({"type": "send", "content": content, "if_running": if_running})
            }
            6..11 => {
                let (when, if_idle) =
                    (["now", "next_step", "next_run"][rng.usize(..3)], ["start", "reject"][rng.usize(..2)]);
                json!({"type": "steer", "content": content, "when": when, "if_idle": if_idle})
            }
            11..13 => json!({"type": "cancel", "mode": (["stop", "rollback"][rng.usize(..2)])}),
            13 => match snapshot["run"]["run_id"].as_str().filter(|_| rng.bool()) {
                Some(run_id) => json!({"type": "cancel", "run_id": run_id}),
                None => json!({"type": "cancel", "run_id": "run_aaaaaa_1"}),
            },
            14 => json!({"type": "approve", "approval_id": "apr_aaaaaa_1"}),
            _ => {
                let queue = snapshot["queue"].as_array().unwrap();
                let target = queue.first().map_or_else(
                    || self.given.last().map_or("nothing", |given| given.id()).to_owned(),
                    |pending| pending["command_id"].as_str().unwrap().to_owned(),
                );
                json!({"type": "withdraw", "target": target})
            }
        }
    }

    /// Gives a command one way or another; every answer that came.
    async fn give(&mut self, session: &str, command: &Value) -> Vec<Value> {
        match self.rng.u8(0..8) {
            0..3 => vec![self.post(session, command).await],
            3 => vec![self.send(session, command).await],
            4 => {
                let (first, second) = tokio::join!(self.post(session, command), self.post(session, command));
                vec![first, second]
            }
            5 => {
                let (first, second) = tokio::join!(self.send(session, command), self.post(session, command));
                vec![first, second]
            }
            _ => {
                self.post_and_leave(session, command).await;
                vec![self.post(session, command).await]
            }
        }
    }

    async fn post(&self, session: &str, command: &Value) -> Value {
        let answer: Answer = self.world.client.control(session, command.clone()).await;
        receipt(answer.json())
    }

    async fn send(&self, session: &str, command: &Value) -> Value {
        let mut socket = socket::open(&self.world.client, session).await;
        receipt(socket::command(&mut socket, command.clone()).await)
    }

    /// Writes some of the request, or all of it, and leaves.
    async fn post_and_leave(&mut self, session: &str, command: &Value) {
        let body = command.to_string();
        let request = format!(
            "POST /v1/sessions/{session}/control HTTP/1.1\r\nhost: steerage.test\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let bytes = if self.rng.bool() { request.len() } else { self.rng.usize(..request.len()) };
        let mut connection = self.world.dialer.connect();
        connection.write_all(&request.as_bytes()[..bytes]).await.unwrap();
        sleep(Duration::from_millis(self.rng.u64(0..3))).await;
    }

    /// An old command again: the same receipt. Another command under its name: a conflict, and no effect.
    async fn give_again(&mut self) {
        let n = self.rng.usize(..self.given.len());
        let (session, command) = (self.given[n].session.clone(), self.given[n].command.clone());
        let receipt = self.post(&session, &command).await;
        let recorded = receipt["command_id"] == command["command_id"];
        self.given[n].receipts.push(receipt);
        // A repeated answer to an approval is answered with the first one's receipt, and its own name stays free.
        if recorded {
            let other = json!({"type": "send", "content": "CONFLICT", "command_id": command["command_id"]});
            let answer = self.world.client.control(&session, other).await;
            assert_eq!((answer.status, answer.code().as_str()), (409, "command_conflict"));
        }
    }
}
