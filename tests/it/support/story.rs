//! One session over HTTP, with the words that scenarios about commands are told in.

use serde_json::{Value, json};
use steerage::{Config, provider::Message};
use tokio::io::DuplexStream;

use super::{
    Client, Sse, TestServer,
    client::Answer,
    script::{Line, Scripted, Work},
};

/// A server with a scripted model and one session `s` on it.
pub(crate) struct Story {
    /// Serves as long as the story is told.
    _server: TestServer,
    pub(crate) client: Client,
    pub(crate) model: Scripted,
    pub(crate) work: Work,
}

impl Story {
    /// The model gives these answers.
    pub(crate) fn new(answers: impl IntoIterator<Item = Vec<Line>>) -> Self {
        Self::configured(steerage::Config::in_memory(), Work::default(), answers)
    }

    pub(crate) fn configured(config: Config, work: Work, answers: impl IntoIterator<Item = Vec<Line>>) -> Self {
        let model = Scripted::new(answers);
        let server = TestServer::configured(config, |s| s.provider("script", model.clone()).tool(work.clone()));
        Self { client: server.client(), _server: server, model, work }
    }

    /// Creates the session, with whatever `more` says beside the model.
    pub(crate) async fn begin(&self, more: Value) {
        let mut body = json!({"id": "s", "model": "script/m"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.client.create(body).await;
    }

    pub(crate) async fn give(&self, command: Value) -> Answer {
        self.client.control("s", command).await
    }

    /// Gives a command that must succeed; its receipt.
    pub(crate) async fn receipt(&self, command: Value) -> Value {
        let answer = self.give(command.clone()).await;
        assert_eq!(answer.status, 200, "{command}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Gives a command that must be refused; status and code.
    pub(crate) async fn refusal(&self, command: Value) -> (u16, String) {
        let answer = self.give(command).await;
        (answer.status, answer.code())
    }

    pub(crate) async fn log(&self) -> Vec<Value> {
        self.client.log("s").await
    }

    pub(crate) async fn snapshot(&self) -> Value {
        self.client.snapshot("s").await
    }

    /// Follows the session from its beginning.
    pub(crate) async fn reader(&self) -> Sse<DuplexStream> {
        self.client.stream("/v1/sessions/s/events", &[]).await
    }

    /// Waits for the `nth` event of that type, from 1, and gives it.
    pub(crate) async fn wait(&self, kind: &str, nth: usize) -> Value {
        let mut stream = self.reader().await;
        for _ in 1..nth {
            stream.until(kind).await;
        }
        stream.until(kind).await.data
    }

    /// Waits until nothing runs.
    pub(crate) async fn idle(&self) -> Vec<Value> {
        self.client.stream("/v1/sessions/s/events?until=idle", &[]).await.rest().await;
        self.log().await
    }
}

/// The events of those types.
pub(crate) fn of<'a>(log: &'a [Value], kind: &'a str) -> Vec<&'a Value> {
    log.iter().filter(|event| event["type"] == kind).collect()
}

/// Every type in order, without deltas and blocks.
pub(crate) fn outline(log: &[Value]) -> Vec<&str> {
    let kinds = log.iter().filter_map(|event| event["type"].as_str());
    kinds.filter(|kind| !kind.starts_with("text.") && !kind.starts_with("tool_call.")).collect()
}

/// What the model was told that people said.
pub(crate) fn users(messages: &[Message]) -> Vec<&str> {
    let mut texts = Vec::new();
    for message in messages {
        if let Message::User(text) = message {
            texts.push(text.as_str());
        }
    }
    texts
}
