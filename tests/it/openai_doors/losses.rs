//! What is lost in the middle: connections, the store, the server.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use steerage::{Config, server::Drained};
use tokio::time::sleep;

use super::{
    client::{CHAT, OpenAi, RESPONSES, id, of, refusal, resumes_everywhere, text},
    replay::replay,
};
use crate::support::{
    Breakable, Folder, Story, TestServer,
    script::{Line, Scripted, endless, ms, says},
};

fn client_of(server: &TestServer) -> OpenAi {
    OpenAi { client: server.client() }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_go_on_is_cut_and_not_ended() {
    for (path, body) in [
        (RESPONSES, json!({"input": "Count", "store": true})),
        (CHAT, json!({"messages": [{"role": "user", "content": "Count"}], "store": true})),
    ] {
        let mortal = vec![Line::Say("Aye"), ms(1_000), Line::Crash];
        let story = Story::new([mortal, says(", aye.")]);
        let client = OpenAi::of(&story);
        let mut stream = client.stream(path, body).await;
        let seen = stream.rest().await;
        assert!(!stream.is_whole() && !stream.done, "a clean end would be taken for the answer's: {seen:?}");
        let first = &stream.events()[0];
        let name = first["id"].as_str().or_else(|| first["response"]["id"].as_str()).expect("a name").to_owned();
        // Whoever comes back has the rest, and the prefix was not another.
        let mut rest = client.follow_at(&format!("{path}/{name}"), Some(seen.len() as u64 - 1)).await;
        rest.rest().await;
        assert!(rest.is_whole());
        let mut whole = stream.blocks.clone();
        whole.extend(rest.blocks.clone());
        resumes_everywhere(&client, &format!("{path}/{name}"), &whole, rest.done).await;
        let said: String =
            whole.iter().filter(|block| block.contains("aye") || block.contains("Aye")).cloned().collect();
        assert!(said.contains("Aye") && said.contains(", aye."), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_cannot_go_on_is_not_to_be_asked_for_again() {
    let story = Story::new([vec![Line::Say("Aye"), ms(1_000), Line::Crash], says(", aye.")]);
    let client = OpenAi::of(&story);
    let refused = client.refused(json!({"input": "Speak", "conversation": "s"})).await;
    assert_eq!((refused.status, refused.headers["x-should-retry"].as_str()), (503, "false"), "{refused:?}");
    assert_eq!(story.model.prompts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_in_mid_stream_is_a_failed_response() {
    let store = Breakable::default();
    let script = || vec![Line::Say("One, "), ms(1_000), Line::Say("two."), ms(1_000), Line::Say("three."), Line::Hang];
    let model = Scripted::new([script(), script(), script()]);
    let server = TestServer::with(|server| server.store(store.clone()).provider("script", model.clone()));
    let client = client_of(&server);
    let mut stream = client.begin(json!({"input": "Count"})).await;
    let mut chat = client.stream(CHAT, json!({"messages": [{"role": "user", "content": "Count"}]})).await;
    let whole = client.post(RESPONSES, json!({"input": "Count"}));
    let breaks = async {
        stream.until("response.output_text.delta").await;
        sleep(Duration::from_millis(500)).await;
        store.break_down("no space left");
    };
    let (whole, ()) = tokio::join!(whole, breaks);
    let refused = refusal(&whole);
    assert!(refused.status >= 500 && refused.headers["x-should-retry"] == "false", "{refused:?}");
    stream.rest().await;
    let failed = replay(&stream.events());
    assert_eq!(
        (&failed["status"], &failed["error"]["code"], text(&failed).as_str()),
        (&json!("failed"), &json!("server_error"), "One, ")
    );
    assert!(stream.is_whole());
    let chunks = chat.rest().await;
    assert!(chunks.last().expect("chunks")["error"]["message"].is_string() && chat.done && chat.is_whole());
    // What is stored can be read; nothing new can be.
    let name = id(&failed).to_owned();
    assert_eq!(text(&client.retrieve(&name).await), "One, ");
    let mut again = client.follow(&name, None).await;
    again.rest().await;
    assert_eq!(again.blocks, stream.blocks);
    for refused in [
        client.refused(json!({"input": "More"})).await,
        client.refused(json!({"input": "More", "conversation": "s"})).await,
        refusal(&client.client.request("POST", &format!("{RESPONSES}/{name}/cancel"), &[], b"").await),
    ] {
        assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{refused:?}");
    }
}

fn config(folder: &Path) -> Config {
    Config { store: format!("disk:{}", folder.display()), drain_grace_s: 0, ..Config::default() }
}

/// A server on the folder, once the one before has let go of it.
async fn serve(folder: &Path) -> TestServer {
    for _ in 0..500 {
        let server = TestServer::configured(config(folder), |server| server);
        sleep(Duration::from_millis(20)).await;
        if !server.has_ended() {
            return server;
        }
    }
    panic!("the store is not free");
}

/// The folder as a kill would leave it now.
fn killed(folder: &Path) -> Folder {
    let copy = Folder::new();
    std::fs::create_dir_all(copy.path()).unwrap();
    for name in ["steerage.sqlite", "steerage.sqlite-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn story(rate: u32) -> Value {
    json!({"model": "demo/story", "input": "go", "background": true, "seed": 7, "tokens_per_second": rate})
}

/// A background response lives through its server's end, planned or not, and its events are the ones that were shown.
async fn over(planned: bool) {
    let (folder, copy) = (Folder::new(), std::cell::OnceCell::new());
    let first = serve(folder.path()).await;
    let client = client_of(&first);
    let begun = client.create(story(100)).await;
    let mut stream = client.follow(id(&begun), None).await;
    while stream.events().len() < 60 {
        stream.next().await.expect("more");
    }
    let second = if planned {
        assert_eq!(first.stop().await, Drained::HandedOver(1));
        stream.rest().await;
        serve(folder.path()).await
    } else {
        let copy: &Folder = copy.get_or_init(|| killed(folder.path()));
        let second = serve(copy.path()).await;
        drop(first);
        second
    };
    let mut seen = stream.blocks.clone();
    if planned {
        assert!(!stream.is_whole(), "the connection is reset: it was not the end");
    } else {
        // What came after the copy was made is another life.
        seen.truncate(60);
    }
    let client = client_of(&second);
    let mut rest = client.follow(id(&begun), Some(seen.len() as u64 - 1)).await;
    rest.rest().await;
    seen.extend(rest.blocks.clone());
    let events: Vec<Value> =
        seen.iter().map(|block| serde_json::from_str(block.split_once("data: ").unwrap().1).unwrap()).collect();
    let whole = replay(&events);
    assert_eq!((&whole["status"], of(&whole, "message").len()), (&json!("completed"), 1));
    assert_eq!(client.retrieve(id(&begun)).await, whole);
    let uninterrupted = client.create(story(100_000)).await;
    assert_eq!(text(&whole), text(&client.ended(id(&uninterrupted)).await), "no word lost, none doubled");
    resumes_everywhere(&client, &format!("{RESPONSES}/{}", id(&begun)), &seen, false).await;
    let next =
        client.create(json!({"model": "demo/echo", "previous_response_id": id(&begun), "input": "hear hear"})).await;
    assert_eq!(text(&next), "hear hear");
}

#[tokio::test]
async fn a_kill_costs_no_word() {
    over(false).await;
}

#[tokio::test]
async fn a_planned_stop_costs_no_word() {
    over(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_lost_with_the_task_and_the_response_is_not() {
    let story = Story::new([vec![Line::Say("Aye"), ms(1_000), Line::Crash], says(", aye."), endless("…")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Speak", "conversation": "s"})).await;
    let name = id(&stream.until("response.created").await["response"]).to_owned();
    stream.rest().await;
    let whole = client.follow(&name, None).await.whole().await;
    assert_eq!((text(&whole).as_str(), &whole["status"]), ("Aye, aye.", &json!("completed")));
}
