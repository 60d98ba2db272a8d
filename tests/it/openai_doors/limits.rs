//! Limits, and names that name nothing.

use serde_json::{Value, json};

use super::client::{CHAT, OpenAi, RESPONSES, id, refusal};
use crate::support::{
    Story,
    client::Answer,
    script::{endless, says},
};

async fn raw(client: &OpenAi, path: &str, body: &[u8], kind: &str) -> Answer {
    client.client.request("POST", path, &[("content-type", kind)], body).await
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_or_no_json_is_refused_in_the_envelope() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let large = json!({"input": "x".repeat(4 << 20), "messages": []}).to_string();
    let deep = format!(r#"{{"input":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    for path in [RESPONSES, CHAT] {
        for (body, status) in [
            (large.as_str(), 413),
            (&deep, 400),
            ("{", 400),
            ("[]", 400),
            ("", 400),
            ("null", 400),
            ("\u{feff}{}", 400),
        ] {
            let refused = refusal(&raw(&client, path, body.as_bytes(), "application/json").await);
            assert_eq!(refused.status, status, "{path} {}: {refused:?}", &body[..body.len().min(20)]);
        }
        assert_eq!(refusal(&raw(&client, path, b"\xff{}", "application/json").await).status, 400);
        assert_eq!(refusal(&raw(&client, path, b"{}", "text/plain").await).status, 415);
        let wrong = refusal(&client.client.request("PUT", path, &[], b"").await);
        assert_eq!((wrong.status, wrong.code.as_str()), (405, "method_not_allowed"));
    }
    assert!(story.model.prompts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn there_are_at_most_so_many_items_and_messages() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let said = |n: usize| Value::Array(vec![json!({"role": "user", "content": "x"}); n]);
    let refused = client.refused(json!({"input": said(10_001)})).await;
    assert_eq!((refused.status, refused.param.as_deref()), (400, Some("input")));
    let refused = refusal(&client.post(CHAT, json!({"messages": said(10_001)})).await);
    assert_eq!((refused.status, refused.param.as_deref()), (400, Some("messages")));
    let most = client.create(json!({"input": said(10_000)})).await;
    assert_eq!(story.model.prompts()[0].messages.len(), 10_000);
    // What follows it is longer than one may be: that is a limit like another, and no accident.
    let follow = client.post(RESPONSES, json!({"previous_response_id": id(&most), "input": "y"})).await;
    assert!(follow.status < 500, "{}", String::from_utf8_lossy(&follow.body));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_names_nothing_is_not_found_in_every_path() {
    let story = Story::new([says("Hi"), endless("One")]);
    let client = OpenAi::of(&story);
    let first = client.create(json!({"input": "1", "conversation": "s"})).await;
    client.create(json!({"input": "2", "conversation": "s", "background": true})).await;
    let real = id(&first);
    let (head, seq) = real.rsplit_once('_').expect("a position");
    let (session, epoch) = head.rsplit_once('_').expect("an epoch");
    let turned: String = epoch.chars().map(|c| if c == 'a' { 'b' } else { 'a' }).collect();
    let log = story.log().await;
    let other = log.iter().find(|event| event["type"] == "input.added").expect("an input")["id"]
        .as_str()
        .unwrap()
        .replace('.', "_");
    let long = "x".repeat(8_000);
    let names = [
        "resp_".to_owned(),
        "resp".into(),
        "x".into(),
        long.clone(),
        format!("resp_{long}"),
        format!("resp_{long}_{epoch}_{seq}"),
        "resp_%C3%BC_x_1".into(),
        "%F0%9F%92%A5".into(),
        "%00".into(),
        "%FF".into(),
        "%2F%2F".into(),
        "resp_x_y_0".into(),
        format!("{head}_0"),
        format!("{session}_{turned}_{seq}"),
        format!("{real}.0"),
        format!("{real}.1"),
        format!("{real}.01"),
        format!("{real}.2"),
        format!("{real}.02"),
        format!("{real}.-1"),
        format!("{real}."),
        format!("{real}.2.2"),
        format!("{real}.4294967295"),
        format!("{real}.4294967296"),
        format!("{head}_{}", u64::MAX),
        format!("{head}_18446744073709551616"),
        format!("{head}_0{seq}"),
        format!("{head}_+{seq}"),
        format!("resp_s_{other}"),
        real.replace("resp_", "msg_"),
        real.replace("resp_", "Resp_"),
        real.replace("resp_", "chatcmpl-"),
        format!("{real}%20"),
    ];
    for name in &names {
        let path = format!("{RESPONSES}/{name}");
        for (method, path) in [
            ("GET", path.clone()),
            ("GET", format!("{path}?stream=true")),
            ("GET", format!("{path}?stream=true&starting_after=0")),
            ("GET", format!("{path}/input_items")),
            ("POST", format!("{path}/cancel")),
            ("DELETE", path.clone()),
            ("GET", format!("{CHAT}/{name}")),
            ("GET", format!("{CHAT}/{name}?stream=true")),
            ("GET", format!("{CHAT}/chatcmpl-{name}")),
        ] {
            let answer = client.client.request(method, &path, &[], b"").await;
            let refused = refusal(&answer);
            assert_eq!(refused.status, 404, "{method} {path}: {refused:?}");
        }
        let refused = client.refused(json!({"input": "x", "previous_response_id": name})).await;
        assert_eq!((refused.status, refused.code.as_str()), (400, "previous_response_not_found"), "{name}");
    }
    assert_eq!(story.model.open(), 1, "nothing of it has hit anything");
    assert_eq!(client.retrieve(real).await, first);
    for model in ["nobody/m", "%FF", "m/m/m", &long] {
        assert_eq!(refusal(&client.client.get(&format!("/v1/models/{model}")).await).status, 404, "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn odd_queries_are_refused_or_passed_over() {
    let story = Story::new([says("Hi")]);
    let client = OpenAi::of(&story);
    let first = client.create(json!({"input": "1"})).await;
    let chat = client.post(CHAT, json!({"messages": [{"role": "user", "content": "Hi"}]})).await.json();
    for path in [format!("{RESPONSES}/{}", id(&first)), format!("{CHAT}/{}", chat["id"].as_str().unwrap())] {
        for bad in [
            "starting_after=-1",
            "starting_after=x",
            "starting_after=1.5",
            "starting_after=18446744073709551616",
            "starting_after=",
        ] {
            let refused = refusal(&client.client.get(&format!("{path}?stream=true&{bad}")).await);
            assert_eq!((refused.status, refused.code.as_str()), (400, "invalid_value"), "{path} {bad}");
        }
        assert_eq!(refusal(&client.client.get(&format!("{path}?stream=maybe")).await).status, 400);
        for fine in ["stream=false&starting_after=7", "include[]=usage&include_obfuscation=false", "x=y"] {
            assert_eq!(client.client.get(&format!("{path}?{fine}")).await.status, 200, "{fine}");
        }
        let end = client.follow_at(&path, Some(u64::MAX)).await;
        assert!(end.blocks.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn odd_bodies_are_named() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    for (body, param) in [
        (json!({}), "input"),
        (json!({"input": 5}), "input"),
        (json!({"input": [5]}), "input[0]"),
        (json!({"input": [{"type": "magic"}]}), "input[0].type"),
        (json!({"input": [{"role": "king", "content": "x"}]}), "input[0].role"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "input[0].content[0]"),
        (json!({"input": "x", "conversation": "a b"}), "conversation"),
        (json!({"input": "x", "conversation": {}}), "conversation.id"),
        (json!({"input": "x", "conversation": []}), "conversation"),
        (json!({"input": "x", "previous_response_id": 5}), "previous_response_id"),
        (json!({"input": "x", "tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"input": "x", "tools": [{"type": "mcp", "server_label": "other"}]}), "tools[0].server_label"),
        (
            json!({"input": "x", "tools": [{"type": "mcp", "server_label": "steerage", "allowed_tools": ["magic"]}]}),
            "tools[0].allowed_tools[0]",
        ),
        (json!({"input": "x", "stream": "yes"}), "stream"),
        (json!({"input": "x", "temperature": 3}), "temperature"),
        (json!({"input": "x", "max_output_tokens": 0}), "max_output_tokens"),
        (json!({"input": "x", "metadata": 5}), "metadata"),
        (json!({"input": "x", "instructions": 5}), "instructions"),
        (json!({"input": "x", "tokens_per_second": "fast"}), "tokens_per_second"),
        (json!({"input": ""}), ""),
    ] {
        if param.is_empty() {
            client.create(body).await;
            continue;
        }
        let refused = client.refused(body.clone()).await;
        assert_eq!((refused.status, refused.param.as_deref()), (400, Some(param)), "{body}: {refused:?}");
    }
}
