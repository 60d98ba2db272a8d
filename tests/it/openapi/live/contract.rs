//! A client that believes nothing: whatever it gets is held against the document.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::super::document;
use crate::support::{Client, client::Answer};

pub(super) struct Observer {
    pub(super) client: Client,
    pub(super) document: Value,
    /// Types of the events, notices and messages that were shown.
    pub(super) types: RefCell<BTreeSet<String>>,
    /// Codes of the problems that were answered.
    pub(super) codes: RefCell<BTreeSet<String>>,
    /// Types of the chunks that were streamed, and of the messages of the chat's socket.
    pub(super) chunks: RefCell<BTreeSet<String>>,
    /// What OpenAI's doors have shown: each kind of thing with its name.
    pub(super) api: RefCell<BTreeSet<String>>,
    validators: RefCell<BTreeMap<String, Rc<Validator>>>,
}

impl Observer {
    pub(super) fn new(client: Client) -> Self {
        let (types, codes, chunks, api, validators) = Default::default();
        Self { client, document: document(), types, codes, chunks, api, validators }
    }

    /// Fails unless `value` is what `schema` says; references lead into the document.
    pub(super) fn check(&self, schema: &Value, value: &Value) {
        let compile = || {
            let mut schema = schema.clone();
            schema["components"] = self.document["components"].clone();
            Rc::new(jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema"))
        };
        let validator = self.validators.borrow_mut().entry(schema.to_string()).or_insert_with(compile).clone();
        let errors: Vec<_> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{schema} does not describe {value}: {errors:#?}");
    }

    /// An event, a notice, or a message of a socket.
    pub(super) fn shown(&self, value: &Value) {
        let kind = value["type"].as_str().unwrap_or_else(|| panic!("no type: {value}"));
        let schemas = &self.document["components"]["schemas"];
        let mapped = ["Event", "Notice"].map(|name| schemas[name]["discriminator"]["mapping"].get(kind));
        let reference = match (mapped.into_iter().flatten().next(), kind) {
            (Some(reference), _) => reference.clone(),
            (None, "receipt") => json!("#/components/schemas/SocketReceipt"),
            (None, "error") => json!("#/components/schemas/SocketError"),
            (None, kind) => panic!("{kind} is not in the document"),
        };
        self.check(&json!({"$ref": reference}), value);
        self.types.borrow_mut().insert(kind.to_owned());
    }

    /// A message of a socket.
    pub(super) fn received(&self, value: &Value) {
        self.check(&json!({"$ref": "#/components/schemas/SocketMessage"}), value);
        self.shown(value);
    }

    /// An answer of a door: its status is listed, its body is what the status says, each event of a page as `shown`.
    pub(super) fn answered(&self, method: &str, path: &str, answer: Answer) -> Answer {
        let path = path.split('?').next().unwrap_or_default();
        let same = |template: &str| {
            let (a, b) = (template.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| *a == b || a.starts_with('{'))
        };
        let paths = self.document["paths"].as_object().expect("paths");
        let (_, item) = paths.iter().find(|(template, _)| same(template)).unwrap_or_else(|| panic!("no door {path}"));
        let response = &item[method.to_ascii_lowercase()]["responses"][answer.status.to_string()];
        assert!(!response.is_null(), "{method} {path}: {} is not documented: {answer:?}", answer.status);
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let Some(value) = answer.headers.get(&name.to_ascii_lowercase()) else { continue };
            let number = header["schema"]["type"] == "integer";
            self.check(&header["schema"], &if number { json!(value.parse::<u64>().unwrap()) } else { json!(value) });
        }
        assert!(answer.headers.contains_key("x-request-id"), "{method} {path}: {answer:?}");
        let Some(contents) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "{method} {path}: {answer:?}");
            return answer;
        };
        let media = answer.headers["content-type"].split(';').next().unwrap_or_default();
        let schema = &contents.get(media).unwrap_or_else(|| panic!("{method} {path}: {media}"))["schema"];
        if media.ends_with("json") {
            let body = answer.json();
            self.check(schema, &body);
            body["events"].as_array().into_iter().flatten().for_each(|event| self.shown(event));
            if media == "application/problem+json" {
                assert_eq!(body["status"], answer.status);
                self.codes.borrow_mut().insert(answer.code());
            }
            self.noted(&body);
        }
        if media == "text/plain" {
            self.check(schema, &json!(String::from_utf8_lossy(&answer.body)));
        }
        answer
    }

    /// The answer of a chat: its chunks. Its end must have been said.
    pub(super) fn played(&self, method: &str, path: &str, answer: Answer) -> Vec<Value> {
        let answer = self.answered(method, path, answer);
        assert_eq!(answer.status, 200, "{answer:?}");
        for header in ["x-vercel-ai-ui-message-stream", "x-workflow-run-id", "steerage-session"] {
            assert!(answer.headers.contains_key(header), "no {header}: {:?}", answer.headers);
        }
        let text = String::from_utf8(answer.body).expect("a stream is UTF-8");
        let events = text.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
        let mut data: Vec<_> = events.map(|event| event.strip_prefix("data: ").expect("a line of data")).collect();
        let frame = json!({"$ref": "#/components/schemas/ChatFrame"});
        data.iter().for_each(|data| self.check(&frame, &json!({"data": data})));
        assert_eq!(data.pop(), Some("[DONE]"));
        let chunks: Vec<Value> = data.into_iter().map(|data| serde_json::from_str(data).expect("JSON")).collect();
        chunks.iter().for_each(|chunk| self.streamed(chunk));
        chunks
    }

    fn streamed(&self, chunk: &Value) {
        // The chunk's own schema says what is wrong; that of all of them would say that it is none of them.
        let kind = chunk["type"].as_str().unwrap_or_else(|| panic!("no type: {chunk}"));
        let reference = &self.document["components"]["schemas"]["UiMessageChunk"]["discriminator"]["mapping"][kind];
        assert!(reference.is_string(), "{kind} is not in the document");
        self.check(&json!({"$ref": reference}), chunk);
        self.chunks.borrow_mut().insert(kind.to_owned());
    }

    /// A message of a chat's socket.
    pub(super) fn answered_over_socket(&self, message: &Value) {
        self.check(&json!({"$ref": "#/components/schemas/ChatSocketMessage"}), message);
        let kind = message["type"].as_str().expect("a type");
        self.chunks.borrow_mut().insert(format!("socket {kind}"));
        if kind == "chunk" {
            self.streamed(&message["chunk"]);
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.answered("GET", path, self.client.get(path).await)
    }

    pub(super) async fn page(&self, path: &str) -> Value {
        self.answered("GET", path, self.client.get_json(path).await).json()
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.answered("POST", path, self.client.post(path, body).await)
    }

    pub(super) async fn create(&self, body: Value) -> String {
        let answer = self.post("/v1/sessions", body).await;
        assert_eq!(answer.status, 201);
        answer.json()["session_id"].as_str().expect("a name").to_owned()
    }

    /// The newest session.
    pub(super) async fn any(&self) -> String {
        let list = self.get("/v1/sessions?limit=1").await.json();
        list["sessions"][0]["session_id"].as_str().expect("a name").to_owned()
    }

    /// Gives a command; `expected` is the status of its receipt, or the code of its problem.
    pub(super) async fn command(&self, session: &str, command: Value, expected: &str) -> Value {
        let answer = self.post(&format!("/v1/sessions/{session}/control"), command.clone()).await;
        let body = answer.json();
        let got = if answer.status == 200 { &body["status"] } else { &body["code"] };
        assert_eq!(got, expected, "{command}: {body}");
        body
    }

    /// Looks at the snapshot again and again, until it is as wanted.
    pub(super) async fn until(&self, session: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        // Each pause is longer than the one before: some scenes end in 300 ms, some after the quarter of an hour of a limit.
        let mut pause = Duration::from_millis(50);
        for _ in 0..60 {
            let snapshot = self.get(&format!("/v1/sessions/{session}")).await.json();
            if wanted(&snapshot) {
                return snapshot;
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.3);
        }
        panic!("{session} never came to it");
    }

    /// Waits for the end of what runs, then reads the whole log. Gives its last cursor.
    pub(super) async fn finish(&self, session: &str) -> String {
        self.until(session, |snapshot| snapshot["state"] == "idle").await;
        let mut after = String::new();
        loop {
            let page = self.page(&format!("/v1/sessions/{session}/events?after={after}")).await;
            after = page["last_event_id"].as_str().expect("a cursor").to_owned();
            if page["caught_up"] == true {
                return after;
            }
        }
    }

    /// The first approval that waits.
    pub(super) async fn approval(&self, session: &str) -> String {
        let waiting = self.until(session, |snapshot| !snapshot["approvals"][0].is_null()).await;
        waiting["approvals"][0]["approval_id"].as_str().expect("a name").to_owned()
    }
}
