//! `response.steer`: accepted before what it leads to, refused with the code that says why.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::client_async;

use super::{Socket, Story};
use crate::{
    openai_doors::client::{OpenAi, RESPONSES, id, steerage, text},
    openai_doors::replay::replay,
    support::{
        Breakable, TestServer,
        script::{Line, Scripted, Work, calls, endless, ms, says},
        story::users,
        unmetered,
    },
};

/// A response that streams on the socket and has said something; its name.
async fn begun(socket: &mut Socket, more: Value) -> String {
    let mut body = json!({"input": "Count"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    socket.create(body).await;
    let name = id(&socket.until("response.created").await["response"]).to_owned();
    socket.until("response.output_text.delta").await;
    name
}

/// A steer that fails, for which the input comes back.
async fn failed(socket: &mut Socket, previous: &str, input: Value) -> String {
    socket.steer(previous, input.clone()).await;
    let event = socket.until("response.steer.failed").await;
    assert_eq!(
        (&event["steer"]["input"], &event["steer"]["previous_response_id"]),
        (&input, &json!(previous)),
        "{event}"
    );
    assert!(event["sequence_number"].is_u64() && event["error"]["message"].is_string());
    event["error"]["code"].as_str().expect("a code").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_steer_is_accepted_and_its_successor_follows_on_the_lane() {
    let story = Story::new([endless("One, "), says("A.")]);
    let client = OpenAi::of(&story);
    let mut socket = Socket::open(&story).await;
    let first = begun(&mut socket, json!({"stream_id": "lane"})).await;
    socket.steer(&first, json!([{"role": "user", "content": "letters"}])).await;
    let accepted = socket.next().await;
    assert_eq!((&accepted["type"], &accepted["stream_id"]), (&json!("response.steer.accepted"), &json!("lane")));
    assert_eq!(accepted["steer"]["previous_response_id"], json!(first));
    assert!(accepted["steer"]["id"].is_string());
    let ended = socket.until("response.incomplete").await;
    assert_eq!(ended["response"]["metadata"]["steerage_successor"], format!("{first}.2"));
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["type"] != "response.completed") {
        let event = socket.next().await;
        assert_eq!(event["stream_id"], "lane");
        events.push(event);
    }
    let second = replay(&events);
    assert_eq!((id(&second), text(&second).as_str()), (format!("{first}.2").as_str(), "A."));
    assert_eq!(client.retrieve(id(&second)).await, second);
    assert_eq!(users(&story.model.prompts()[1].messages), ["Count", "letters"]);
    // The next create of the lane had to wait for all of that.
    socket.create(json!({"input": "And?", "previous_response_id": second["id"], "stream_id": "lane"})).await;
    socket.until("response.completed").await;
    assert_eq!(users(&story.model.prompts()[2].messages), ["Count", "letters", "And?"]);
}

/// Whatever the store, the other lanes and the reader do: what a steer leads to comes behind its acceptance.
async fn accepted_comes_first(late: u64, buffer: usize, pause: u64) {
    let store = Breakable::default();
    let answers = (0..400).map(|n| match n % 2 {
        0 => vec![
            Line::Say("One, "),
            ms(1),
            Line::Say("two, "),
            ms(1),
            Line::Say("three, "),
            ms(1),
            Line::Say("four"),
            Line::Hang,
        ],
        _ => endless("A"),
    });
    let model = Scripted::new(answers);
    let server = TestServer::with(|server| server.store(store.clone()).provider("script", model.clone()));
    store.answer_late(Duration::from_millis(late));
    let url = format!("ws://steerage.test{RESPONSES}");
    let mut socket = Socket(client_async(url, server.dialer.connect_with(buffer)).await.expect("an upgrade").0);
    let mut names: Vec<(String, String)> = Vec::new();
    for lane in ["a", "b", "c"] {
        socket.create(json!({"input": "Count", "stream_id": lane})).await;
        let created = socket.until("response.created").await;
        names.push((lane.to_owned(), id(&created["response"]).to_owned()));
    }
    for round in 0..8u32 {
        let current = |first: &str| if round == 0 { first.to_owned() } else { format!("{first}.{}", round + 1) };
        for (_, first) in &names {
            socket.steer(&current(first), json!(format!("steer {round}"))).await;
        }
        let mut accepted: Vec<String> = Vec::new();
        let mut created = 0;
        while created < 3 {
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let event = socket.next().await;
            let lane = event["stream_id"].as_str().unwrap_or_else(|| panic!("{event}")).to_owned();
            match event["type"].as_str().expect("a type") {
                "response.steer.accepted" => accepted.push(lane),
                "response.incomplete" => {
                    assert!(accepted.contains(&lane), "ended before it was accepted: {late} {buffer}")
                }
                "response.created" => {
                    assert!(accepted.contains(&lane), "begun before it was accepted: {late} {buffer}");
                    created += 1;
                }
                "response.steer.failed" | "response.steer.pending" => panic!("{event}"),
                _ => {}
            }
        }
        assert_eq!(accepted.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn accepted_comes_first_however_slow_the_store_and_the_reader_are() {
    for (late, buffer, pause) in [(0, 16_384, 0), (0, 64, 1), (5, 16_384, 0), (50, 256, 3), (500, 64, 0), (3, 1_000, 7)]
    {
        accepted_comes_first(late, buffer, pause).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accepted_comes_first_on_many_threads() {
    for late in [0, 0, 0, 1] {
        accepted_comes_first(late, 16_384, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_can_still_steer() {
    // More than the pipe and the socket's buffers hold.
    let long: &'static str = Box::leak("x".repeat(200_000).into_boxed_str());
    let story = Story::new([vec![Line::Say(long), Line::Hang], says("A.")]);
    let client = OpenAi::of(&story);
    let mut socket = Socket::open(&story).await;
    socket.create(json!({"input": "Count"})).await;
    let name = id(&socket.until("response.created").await["response"]).to_owned();
    while text(&client.retrieve(&name).await).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Nothing of it is read.
    socket.steer(&name, json!("letters")).await;
    let successor = format!("{name}.2");
    let mut tries = 0;
    while client.client.get(&format!("{RESPONSES}/{successor}")).await.status == 404 {
        tries += 1;
        assert!(tries < 1_000, "the steer did not get through");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut accepted, mut created) = (None, None);
    for at in 0.. {
        let event = socket.next().await;
        match event["type"].as_str().unwrap_or_default() {
            "response.steer.accepted" => accepted = Some(at),
            "response.created" => created = Some(at),
            "response.completed" => break,
            "" => panic!("{event}"),
            _ => {}
        }
    }
    assert!(accepted.is_some() && created > accepted);
}

#[tokio::test(start_paused = true)]
async fn a_steer_that_cannot_be_comes_back_with_its_reason() {
    let work = Work::taking(Duration::from_secs(3_600));
    let story = Story::configured(
        unmetered(),
        work,
        [says("Hi"), endless("One"), says("A."), calls(&[("work", json!({"n": 1}))])],
    );
    let mut socket = Socket::open(&story).await;
    socket.create(json!({"input": "Hi"})).await;
    let ended = id(&socket.until("response.completed").await["response"]).to_owned();
    let running = begun(&mut socket, json!({"stream_id": "lane"})).await;
    for unknown in [
        "resp_x",
        "",
        "resp_nobody_abcdef_3",
        &format!("{running}.2"),
        &running.replace("resp_", "msg_"),
        &"x".repeat(5_000),
    ] {
        assert_eq!(failed(&mut socket, unknown, json!("x")).await, "response_not_found", "{unknown}");
    }
    assert_eq!(failed(&mut socket, &ended, json!("x")).await, "response_already_completed");
    let long = "x".repeat(16 * 1024 + 1);
    for invalid in [
        json!(null),
        json!(""),
        json!([]),
        json!(5),
        json!({"role": "user", "content": "x"}),
        json!([{"role": "system", "content": "x"}]),
        json!([{"role": "assistant", "content": "x"}]),
        json!([{"role": "user", "content": "x"}, {"type": "function_call_output", "call_id": "c", "output": "x"}]),
        json!([{"type": "mcp_approval_response", "approval_request_id": "mcpr_lane_abcdef_3", "approve": true}]),
        json!([{"type": "item_reference", "id": "msg_x"}]),
        json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
        json!(long),
    ] {
        assert_eq!(failed(&mut socket, &running, invalid.clone()).await, "invalid_input", "{invalid}");
    }
    let more = json!({"type": "response.steer", "previous_response_id": running, "input": "x", "model": "script/m"});
    socket.send(more).await;
    assert_eq!(socket.until("response.steer.failed").await["error"]["code"], "invalid_input");
    socket.send(json!({"type": "response.steer", "previous_response_id": 5, "input": "x"})).await;
    assert_eq!(socket.until("response.steer.failed").await["error"]["code"], "invalid_input");
    assert_eq!(story.model.open(), 1, "nothing of it was said");
    // The steered one has ended; its successor ends by itself.
    socket.steer(&running, json!("letters")).await;
    socket.until("response.steer.accepted").await;
    socket.until("response.completed").await;
    for over in [running.clone(), format!("{running}.2")] {
        assert_eq!(failed(&mut socket, &over, json!("x")).await, "response_already_completed");
    }
    // As many wait for a tool as may.
    socket.create(json!({"input": "Work", "tools": [steerage("never")]})).await;
    let works = id(&socket.until("response.created").await["response"]).to_owned();
    socket.until("response.mcp_call.in_progress").await;
    let mut accepted = 0;
    for n in 0..100 {
        socket.steer(&works, json!(format!("steer {n}"))).await;
    }
    let code = loop {
        let event = socket.next().await;
        match event["type"].as_str() {
            Some("response.steer.accepted") => accepted += 1,
            Some("response.steer.failed") => break event["error"]["code"].clone(),
            _ => assert!(event.get("closed").is_none(), "{event}"),
        }
    };
    assert_eq!((code, accepted > 10), (json!("too_many_pending_steers"), true));
}

#[tokio::test(start_paused = true)]
async fn what_waited_and_was_never_said_comes_back() {
    let work = Work::taking(Duration::from_secs(3_600));
    let story = Story::configured(steerage::Config::in_memory(), work, [calls(&[("work", json!({"n": 1}))])]);
    let client = OpenAi::of(&story);
    let mut socket = Socket::open(&story).await;
    socket.create(json!({"input": "Work", "tools": [steerage("never")]})).await;
    let name = id(&socket.until("response.created").await["response"]).to_owned();
    socket.until("response.mcp_call.in_progress").await;
    socket.steer(&name, json!("letters")).await;
    let accepted = socket.until("response.steer.accepted").await;
    client.cancel(&name).await;
    let returned = socket.until("response.steer.failed").await;
    assert_eq!((&returned["steer"]["id"], &returned["steer"]["input"]), (&accepted["steer"]["id"], &json!("letters")));
    assert_eq!(returned["error"]["code"], "response_not_active");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_was_posted_is_steered_too() {
    let story = Story::new([endless("One"), endless("A"), says("Do.")]);
    let client = OpenAi::of(&story);
    let mut stream = client.begin(json!({"input": "Count"})).await;
    stream.until("response.output_text.delta").await;
    let name = id(&stream.events()[0]["response"]).to_owned();
    let mut socket = Socket::open(&story).await;
    socket.steer(&name, json!("letters")).await;
    let accepted = socket.next().await;
    assert_eq!(accepted["type"], "response.steer.accepted");
    assert!(accepted.get("stream_id").is_none());
    let first = stream.whole().await;
    assert_eq!(first["incomplete_details"]["reason"], "steered");
    let mut next = client.follow(&format!("{name}.2"), None).await;
    next.until("response.output_text.delta").await;
    socket.steer(&format!("{name}.2"), json!("tones")).await;
    assert_eq!(socket.next().await["type"], "response.steer.accepted");
    assert_eq!(text(&client.ended(&format!("{name}.3")).await), "Do.");
}
