//! Six random bytes become one thing that happens to a session. Zeros are the tamest thing that can: so a failing case
//! shrinks to tame ones.

use std::time::Duration;

use serde_json::{Map, Value, json};
use steerage::{
    command::{
        ApprovalScope, Approve, Cancel, CancelMode, Command, Deny, IfIdle, IfRunning, InputCall, InputMessage,
        Regenerate, Said, Send, Steer, SteerWhen, ToolResult, Withdraw,
    },
    event::{FailureCode, FinishReason, Usage},
    id::{ApprovalId, CallId, CommandId, MessageId},
    provider::{Delta, ProviderError, Retry},
    session::state::Input,
    spec::Role,
};

use super::world::{TOOLS, World};

/// What happens: which kind, three choices, how long it takes, how slow the world is.
pub(crate) type Move = [u8; 6];

const FINISH: [FinishReason; 8] = [
    FinishReason::Stop,
    FinishReason::ToolCalls,
    FinishReason::Length,
    FinishReason::ContentFilter,
    FinishReason::Other,
    FinishReason::Steered,
    FinishReason::Cancelled,
    FinishReason::Error,
];

fn of<T: Clone>(list: &[T], pick: u8) -> T {
    list[usize::from(pick) % list.len()].clone()
}

fn text(delta: &str) -> Delta {
    Delta::Text { text: delta.into(), lossy: false }
}

impl World {
    /// Makes one move.
    pub(crate) fn make(&mut self, [kind, a, b, c, pause, haste]: Move) {
        self.now.0 += of(&[1, 1, 1, 5, 40, 300], pause);
        match kind {
            0..55 => self.deliver(Delta::Text { text: of(&["a", "é ", "", "\n\n", "🚢"], a).into(), lossy: b == 1 }),
            55..65 => self.deliver(Delta::Reasoning { text: of(&["hm", ""], a).into(), lossy: b == 1 }),
            65..77 => self.begin_call(u32::from(a % 3), b, c),
            77..87 => self.arguments(u32::from(a % 3), b),
            87..97 => self.end(a),
            97..135 => self.whole_answer(a, b, c),
            135..143 => self.fail(a, b),
            143..154 => self.cancel(a, b, c),
            154..170 => {
                let (when, if_idle) = (
                    of(&[SteerWhen::Now, SteerWhen::NextStep, SteerWhen::NextRun], b),
                    of(&[IfIdle::Start, IfIdle::Start, IfIdle::Reject], c),
                );
                let (command_id, content) = (self.command_id(a), self.words());
                self.command(Command::Steer(Steer { command_id, content, when, if_idle }));
            }
            170..187 => {
                let if_running = of(&[IfRunning::Queue, IfRunning::Steer, IfRunning::Cancel, IfRunning::Reject], b);
                let (command_id, content) = (self.command_id(a), self.words());
                let placed = matches!(if_running, IfRunning::Cancel | IfRunning::Reject);
                let message_id = Some(self.message(c)).filter(|_| placed && c & 1 == 1);
                let replaces = Some(self.message(c)).filter(|_| placed && c & 5 == 5);
                let history = Some(self.history(c / 4)).filter(|_| placed && c & 2 == 2);
                let metadata = self.metadata(placed && c & 9 == 9);
                self.command(Command::Send(Send {
                    command_id,
                    content,
                    if_running,
                    message_id,
                    replaces,
                    history,
                    metadata,
                }));
            }
            187..205 => {
                let arguments = of(&[None, None, Some(json!({"n": 7})), Some(json!({"n": "x"}))], c >> 1);
                let scope = if c & 17 == 17 { ApprovalScope::Session } else { ApprovalScope::Once };
                let (command_id, approval_id) = (self.command_id(a), self.approval(b));
                self.command(Command::Approve(Approve { command_id, approval_id, arguments, scope }));
            }
            205..211 => {
                let (command_id, approval_id) = (self.command_id(a), self.approval(b));
                self.command(Command::Deny(Deny {
                    command_id,
                    approval_id,
                    message: of(&[None, Some("no".into())], c),
                }));
            }
            211..222 => {
                let (output, error) =
                    of(&[(Some(json!(1)), None), (Some(Value::Null), None), (None, Some("e".into()))], c);
                let (command_id, call_id) = (self.command_id(a), self.call(b));
                self.command(Command::ToolResult(ToolResult {
                    command_id,
                    call_id,
                    output,
                    error,
                    metadata: Default::default(),
                }));
            }
            222..228 => {
                let (command_id, target) = (self.command_id(a), self.command_id(b));
                let waits = self.state.fold.pending.first().map(|pending| pending.command_id.clone());
                let target = if c & 1 == 0 { waits.or(target) } else { target };
                let target = target.unwrap_or_else(|| "unheard-of".parse().expect("an id"));
                self.command(Command::Withdraw(Withdraw { command_id, target }));
            }
            228..231 => {
                let command_id = self.command_id(a);
                let message_id = Some(self.message(c)).filter(|_| b & 3 == 1);
                let history = Some(self.history(c)).filter(|_| b & 3 == 2);
                self.command(Command::Regenerate(Regenerate { command_id, message_id, history }));
            }
            231..233 => {
                if let Some(again) = (!self.given.is_empty()).then(|| of(&self.given, a)) {
                    self.command(again);
                }
            }
            233..242 => self.tool_done(a, b),
            242..249 => self.wait(a),
            249..251 => self.step(Input::Readers(usize::from(a % 2))),
            251 => self.stray(Input::Delta(of(&[text("late"), end(FinishReason::Stop)], a))),
            252 => self.stray(Input::UpstreamFailed(ProviderError::fatal(FailureCode::UpstreamError, "late"))),
            253 if self.state.fold.run.is_none() && !self.state.fold.hands_over() => {
                let inputs = self.brought(a, b);
                let metadata = self.metadata(c & 1 == 1);
                self.step(Input::Begin(inputs, metadata));
            }
            254 if a < 128 => self.crash(),
            254 if a < 200 => {
                self.step(Input::Shutdown);
                self.store();
                assert!(!self.audit.run_open(), "stopped in order");
                self.crash();
            }
            255 if a < 24 => self.step(Input::Delete),
            _ => self.tool_done(a, b),
        }
        if haste < 224 {
            self.store();
            if haste < 192 {
                self.perform();
            }
            if haste & 127 == 127 {
                self.compare_snapshots();
            }
        }
        if self.mortal && (haste, pause & 3) == (haste & 0xf8, 3) {
            self.crash();
        }
    }

    fn words(&mut self) -> String {
        self.said += 1;
        format!("words {}", self.said)
    }

    /// What a client wants to find again with a run.
    fn metadata(&mut self, any: bool) -> Map<String, Value> {
        let words = any.then(|| self.words());
        words.map(|words| ("said".to_owned(), words.into())).into_iter().collect()
    }

    /// A conversation from elsewhere.
    fn brought(&mut self, text: u8, calls: u8) -> Vec<InputMessage> {
        let words = self.words();
        let call = |n: u8| InputCall {
            call_id: format!("brought_{}_{n}", self.said).parse().expect("an id"),
            name: of(&TOOLS, calls / 4 + n).into(),
            arguments: json!({"n": n}),
            output: [Some(json!("out")), Some(Value::Null), None][usize::from(n)].clone(),
            error: (n == 2).then(|| "e".into()),
        };
        let answer = InputMessage {
            role: Role::Assistant,
            content: of(&["", "so"], text).into(),
            reasoning: of(&[None, Some("hm".into())], text / 2),
            calls: (0..calls % 4).map(call).collect(),
        };
        vec![InputMessage::text(Role::System, "be"), answer, InputMessage::text(Role::User, words)]
    }

    /// Few names, so that they meet; some of them guess what the server would mint.
    fn command_id(&self, pick: u8) -> Option<CommandId> {
        let next = self.state.fold.tail.0 + 1;
        let name = match pick {
            0..96 => return None,
            96..104 => format!("cmd_{}_{}", self.audit.epoch, next + u64::from(pick % 5)),
            pick => format!("c{pick}"),
        };
        Some(name.parse().expect("an id"))
    }

    /// A message of the conversation, or a new one.
    fn message(&self, pick: u8) -> MessageId {
        let messages = &self.state.fold.conversation.messages;
        match pick {
            0..200 if !messages.is_empty() => of(messages, pick).message_id,
            pick => format!("u{pick}").parse().expect("an id"),
        }
    }

    /// A conversation as a client may have it: cut, with something left out, said otherwise, or of its own.
    fn history(&self, pick: u8) -> Vec<Said> {
        let messages = self.state.fold.conversation.messages.iter().filter(|message| !message.rolled_back);
        let mut history: Vec<Said> = messages
            .map(|message| {
                let message_id = match &message.run_id {
                    Some(run_id) if pick & 8 == 8 => run_id.as_str().parse().expect("an id"),
                    _ => message.message_id.clone(),
                };
                Said { message_id, role: message.role, content: message.text() }
            })
            .collect();
        history.truncate(history.len().saturating_sub(usize::from(pick % 4)));
        if pick & 16 == 16 && history.len() > 1 {
            history.remove(0);
        }
        if pick & 32 == 32
            && let Some(said) = history.first_mut()
        {
            said.content.push_str(" or not");
        }
        let own = |n: u8| Said {
            message_id: format!("own{}", u16::from(pick) + u16::from(n)).parse().expect("an id"),
            role: if n.is_multiple_of(2) { Role::User } else { Role::Assistant },
            content: format!("of my own {n}"),
        };
        history.extend((0..(pick / 64) % 3).map(own));
        history
    }

    fn approval(&self, pick: u8) -> ApprovalId {
        let open = &self.state.fold.open_approvals;
        let known: Vec<_> = self.audit.approvals().collect();
        match pick {
            0..200 if !open.is_empty() => of(open, pick),
            0..250 if !known.is_empty() => of(&known, pick).clone(),
            _ => "apr_unheard_of".parse().expect("an id"),
        }
    }

    fn call(&self, pick: u8) -> CallId {
        let waits: Vec<_> = self.state.fold.conversation.newest_calls().filter(|call| call.outcome.is_none()).collect();
        let known: Vec<_> = self.audit.calls().collect();
        match pick {
            0..200 if !waits.is_empty() => of(&waits, pick).call_id.clone(),
            0..250 if !known.is_empty() => of(&known, pick).clone(),
            _ => "call_unheard_of".parse().expect("an id"),
        }
    }

    fn begin_call(&mut self, index: u32, tool: u8, id: u8) {
        let next = self.state.fold.tail.0 + 1;
        let id = match id {
            0..180 => None,
            180..200 => Some(format!("call_{}_{}", self.audit.epoch, next + u64::from(id % 4))),
            200..210 => Some(String::new()),
            id => Some(format!("u{}", id % 24)),
        };
        self.deliver(Delta::ToolCall { index, id, name: of(&TOOLS, tool).into() });
    }

    fn arguments(&mut self, index: u32, pick: u8) {
        let fragment = of(&[r#"{"n":1}"#, r#"{"n":"#, "2}", r#"{"n":"x"}"#, "[]", "", "{}", " "], pick).into();
        self.deliver(Delta::Arguments { index, fragment });
    }

    fn end(&mut self, pick: u8) {
        self.deliver(end(if pick < 200 { of(&FINISH[..2], pick) } else { of(&FINISH, pick) }));
    }

    /// An answer with up to three calls that are as they should be.
    fn whole_answer(&mut self, calls: u8, tool: u8, words: u8) {
        if words & 1 == 1 {
            self.deliver(text("so"));
        }
        for n in 0..calls % 4 {
            self.deliver(Delta::ToolCall { index: n.into(), id: None, name: of(&TOOLS[..8], tool / 7 + n).into() });
            self.deliver(Delta::Arguments { index: n.into(), fragment: format!("{{\"n\":{n}}}") });
        }
        self.deliver(end(FinishReason::ToolCalls));
    }

    fn fail(&mut self, retry: u8, code: u8) {
        let after = |ms| Retry::After(Duration::from_millis(ms));
        let retry = of(&[Retry::Never, Retry::Soon, Retry::Soon, after(0), after(2_000), after(3_600_000)], retry);
        let code =
            of(&[FailureCode::UpstreamError, FailureCode::UpstreamTruncated, FailureCode::UpstreamRejected], code);
        self.break_upstream(ProviderError { code, message: "broke".into(), retry });
    }

    fn cancel(&mut self, id: u8, run: u8, mode: u8) {
        let running = self.state.fold.run.as_ref().map(|run| run.run_id.clone());
        let run_id = match run {
            0..180 => None,
            180..230 => running,
            _ => Some("run_unheard_of".parse().expect("an id")),
        };
        let mode = if mode & 3 == 3 { CancelMode::Rollback } else { CancelMode::Stop };
        let command_id = self.command_id(id);
        self.command(Command::Cancel(Cancel { command_id, run_id, mode, reason: None }));
    }

    fn tool_done(&mut self, pick: u8, end: u8) {
        let result = of(&[Ok(json!({"ok": true})), Ok(Value::Null), Err("failed".into())], end);
        if self.tools.is_empty() {
            // Nobody runs anything: the end of a tool that was stopped, or never was.
            let call_id = self.call(255);
            return self.stray(Input::ToolDone { call_id, result });
        }
        let done = self.tools.swap_remove(usize::from(pick) % self.tools.len());
        self.step(Input::ToolDone { call_id: done.call_id, result });
    }

    fn wait(&mut self, pick: u8) {
        match pick {
            0..140 => self.now.0 += of(&[100, 600, 2_000, 10_000, 21_000, 31_000], pick),
            140..246 => {
                self.now = self
                    .state
                    .deadline()
                    .filter(|at| self.state.fold.run.is_some() && *at > self.now)
                    .unwrap_or(self.now)
            }
            246..252 => self.now = self.now.after_seconds(1_000),
            _ => self.now = self.now.after_seconds(90_000),
        }
        // The clock may be ahead of the timer: then whatever comes next comes before the tick.
        if pick & 7 != 7 {
            self.step(Input::Tick);
        }
    }
}

fn end(finish_reason: FinishReason) -> Delta {
    let usage = Some(Usage { output_tokens: Some(1), ..Usage::default() });
    Delta::End { finish_reason, usage, warning: None }
}
