//! An unfinished answer: who is asked to go on with it, in which words, and what is remembered of a refusal.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use steerage::{
    event::FailureCode,
    provider::{
        Message, Prefill, Prompt, Provider as _, ProviderError,
        openai::{Config, OpenAi, PrefillSetting},
    },
};
use tokio::time::timeout;

use super::raw::{
    Act, DONE, HELLO, Items, STOP, STREAM, Server, chunk, end, json_answer, prompt, serve_by, text, write,
};

fn unfinished() -> Prompt {
    let said = Message::Assistant { text: "well,".into(), reasoning: String::new(), calls: Vec::new() };
    Prompt { messages: vec![Message::User("hi".into()), said], continues: true, ..prompt() }
}

/// A server whose models belong to `owner`, and which answers or refuses.
async fn server(owner: &'static str, answers: bool) -> Server {
    serve_by(move |request| match (request.starts_with("GET "), answers) {
        (true, _) if owner.is_empty() => json_answer("404 Not Found", "", "no such page"),
        (true, _) => json_answer("200 OK", "", &json!({"data": [{"id": "m", "owned_by": owner}]}).to_string()),
        (false, true) => vec![write(STREAM), chunk(HELLO), chunk(STOP), chunk(DONE), Act::AwaitClose],
        (false, false) => json_answer("400 Bad Request", "", r#"{"message":"the last message is an answer"}"#),
    })
    .await
}

fn upstream(server: &Server, prefill: PrefillSetting) -> OpenAi {
    OpenAi::new(Config { prefill, ..Config::new("local", &server.url) }).unwrap()
}

async fn ask(upstream: &OpenAi, prompt: Prompt) -> Items {
    timeout(Duration::from_secs(10), upstream.stream(prompt).collect::<Items>()).await.expect("the stream ends")
}

/// The requests so far, each as its method.
async fn asked(server: &Server) -> Vec<String> {
    let mut requests = server.requests.lock().await;
    let requests = std::iter::from_fn(|| requests.try_recv().ok());
    requests.map(|request| request.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_server_that_is_known_to_go_on_is_asked_to() {
    for owner in ["llamacpp", "vllm", "sglang", "someone", ""] {
        let server = server(owner, true).await;
        let upstream = upstream(&server, PrefillSetting::Auto);
        assert_eq!(upstream.prefill("m"), Prefill::Unknown, "nobody has asked for the list yet");
        assert_eq!(ask(&upstream, unfinished()).await, [text("hello"), end(None)]);
        let known = if owner == "someone" || owner.is_empty() { Prefill::Unknown } else { Prefill::Yes };
        assert_eq!(upstream.prefill("m"), known, "{owner}");
        let mut requests = server.requests.lock().await;
        assert!(requests.recv().await.unwrap().starts_with("GET /v1/models "));
        let request = requests.recv().await.unwrap();
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!((&body["continue_final_message"], &body["add_generation_prompt"]), (&json!(true), &json!(false)));
        assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "well,"}));
    }
}

#[tokio::test]
async fn an_ordinary_prompt_asks_for_no_list_and_says_nothing_of_it() {
    let server = server("llamacpp", true).await;
    let answer = ask(&upstream(&server, PrefillSetting::Auto), Prompt { continues: false, ..unfinished() }).await;
    assert_eq!(answer, [text("hello"), end(None)]);
    let request = server.requests.lock().await.recv().await.unwrap();
    assert!(request.starts_with("POST ") && !request.contains("continue_final_message"), "{request}");
}

fn is_refused(answer: &Items) -> bool {
    matches!(answer.as_slice(), [Err(ProviderError { code: FailureCode::UpstreamRejected, .. })])
}

/// Ollama closes the answer and begins a new one, without a word: it must not come to that.
#[tokio::test]
async fn a_server_that_would_begin_a_new_answer_is_not_asked() {
    let ollama = server("library", true).await;
    let known = upstream(&ollama, PrefillSetting::Auto);
    assert!(is_refused(&ask(&known, unfinished()).await));
    assert_eq!((known.prefill("m"), asked(&ollama).await), (Prefill::No, vec!["GET".to_owned()]));
    let told = upstream(&ollama, PrefillSetting::No);
    assert!(is_refused(&ask(&told, unfinished()).await));
    assert!(asked(&ollama).await.is_empty());
    // Whoever runs it knows better.
    let told = upstream(&ollama, PrefillSetting::Yes);
    assert_eq!(ask(&told, unfinished()).await, [text("hello"), end(None)]);
    assert_eq!(asked(&ollama).await, ["POST"]);
}

#[tokio::test]
async fn a_refusal_is_remembered_of_that_model() {
    let server = server("someone", false).await;
    let upstream = upstream(&server, PrefillSetting::Auto);
    // A refusal of an ordinary request says nothing about it.
    assert!(is_refused(&ask(&upstream, prompt()).await));
    assert_eq!(upstream.prefill("m"), Prefill::Unknown);
    assert!(is_refused(&ask(&upstream, unfinished()).await));
    assert_eq!((upstream.prefill("m"), upstream.prefill("n")), (Prefill::No, Prefill::Unknown));
    assert_eq!(asked(&server).await, ["POST", "GET", "POST"]);
    assert!(is_refused(&ask(&upstream, unfinished()).await));
    assert!(asked(&server).await.is_empty(), "it is not asked again");
}
