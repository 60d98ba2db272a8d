//! What the upstream is asked: which answer is due, how much of it has been said, and whether the conversation that
//! came with it is the true one.

use serde_json::{Value, json};

use crate::oracle::{Oracle, read};

/// How the answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From its first word.
    Fresh,
    /// Exactly behind the trailing assistant message.
    Prefill,
    /// Behind what was said, because the last message asks in words to go on.
    Continue,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Prefill => "prefill",
            Self::Continue => "continue",
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) session: String,
    pub(crate) turn: String,
    pub(crate) step: u32,
    pub(crate) mode: Mode,
    /// What of the answer's text has been said.
    pub(crate) said: String,
}

/// Reads a request. The error says what the server must never have sent.
pub(crate) fn understand(oracle: Oracle, request: &Value) -> Result<Asked, String> {
    let messages = request["messages"].as_array().ok_or("no messages")?;
    let mut at: Option<(String, String)> = None;
    let mut step = 0;
    let mut said: Option<String> = None;
    let mut asks_on = false;
    for (n, message) in messages.iter().enumerate() {
        let content = message["content"].as_str().unwrap_or_default();
        let wrong = |what: &str| format!("message {n} of {}: {what}", messages.len());
        match message["role"].as_str() {
            Some("system") => {}
            Some("user") => match read(content) {
                Some((session, turn)) => {
                    if at.as_ref().is_some_and(|(before, _)| before != session) {
                        return Err(wrong(&format!("the conversation of another session: {session}")));
                    }
                    at = Some((session.to_owned(), turn.to_owned()));
                    (step, said, asks_on) = (0, None, false);
                }
                None => asks_on = true,
            },
            Some("assistant") => {
                let Some((session, turn)) = &at else { return Err(wrong("an answer before every question")) };
                if said.is_some() {
                    return Err(wrong("a second answer to the same question"));
                }
                let answer = oracle.answer(session, turn, step);
                let text = answer.text();
                match message["tool_calls"].as_array() {
                    Some(calls) => {
                        if text != content {
                            return Err(wrong(&format!("an answer that was {text:?} is told as {content:?}")));
                        }
                        if calls.len() != answer.calls.len() {
                            return Err(wrong("another number of calls"));
                        }
                        step += 1;
                    }
                    None if text.starts_with(content) => said = Some(content.to_owned()),
                    None => return Err(wrong(&format!("an answer that was {text:?} is told as {content:?}"))),
                }
            }
            Some("tool") => {}
            other => return Err(wrong(&format!("role {other:?}"))),
        }
    }
    let (session, turn) = at.ok_or("nobody asks anything")?;
    let last = messages.last().map(|message| &message["role"]);
    let mode = match (&said, last) {
        (None, _) => Mode::Fresh,
        (Some(_), Some(role)) if role == "assistant" && request["continue_final_message"] == json!(true) => {
            Mode::Prefill
        }
        (Some(_), _) if asks_on => Mode::Continue,
        (Some(_), _) => return Err("a trailing answer, and nothing says that it goes on".into()),
    };
    Ok(Asked { session, turn, step, mode, said: said.unwrap_or_default() })
}

fn talk(messages: Value) -> Value {
    json!({"messages": messages})
}

/// The reader's own tests, run when the harness starts.
pub(crate) const TESTS: &[crate::selftest::Test] = &[
    ("prompt: a question, its steer and its tools", || {
        let oracle = Oracle { seed: 3 };
        let say = crate::oracle::say;
        let user = |turn: &str| json!({"role": "user", "content": say("s", turn)});
        let fresh = understand(oracle, &talk(json!([user("a")]))).unwrap();
        assert_eq!((fresh.turn.as_str(), fresh.step, fresh.mode), ("a", 0, Mode::Fresh));
        let part = oracle.answer("s", "a", 0).words[0].clone();
        let cut = json!({"role": "assistant", "content": part});
        let steered = understand(oracle, &talk(json!([user("a"), cut, user("b")]))).unwrap();
        assert_eq!((steered.turn.as_str(), steered.mode), ("b", Mode::Fresh));
        let lie = json!({"role": "assistant", "content": format!("{part}{part}")});
        assert!(understand(oracle, &talk(json!([user("a"), lie, user("b")]))).is_err());
        assert!(understand(oracle, &talk(json!([user("a"), cut, cut, user("b")]))).is_err());
    }),
    ("prompt: two ways to go on", || {
        let oracle = Oracle { seed: 3 };
        let user = json!({"role": "user", "content": crate::oracle::say("s", "a")});
        let part = oracle.answer("s", "a", 0).words[0].clone();
        let cut = json!({"role": "assistant", "content": part});
        let mut prefill = talk(json!([user, cut]));
        assert!(understand(oracle, &prefill).is_err());
        prefill["continue_final_message"] = json!(true);
        let asked = understand(oracle, &prefill).unwrap();
        assert_eq!((asked.mode, &asked.said), (Mode::Prefill, &part));
        let go_on = talk(json!([user, cut, {"role": "user", "content": "go on where you were cut"}]));
        assert_eq!(understand(oracle, &go_on).unwrap().mode, Mode::Continue);
    }),
];
