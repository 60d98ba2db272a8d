//! Responses of one conversation: begun, gone on with, by this door and by others.

use serde_json::{Value, json};
use steerage::provider::{Message, Outcome};

use super::client::{OpenAi, RESPONSES, function, id, of, output, refusal, steerage, text};
use crate::support::{
    Story,
    script::{calls, endless, says},
};

fn users(story: &Story, nth: usize) -> Vec<String> {
    crate::support::story::users(&story.model.prompts()[nth].messages).into_iter().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_one_session_that_remembers() {
    let story = Story::new(["one", "two", "three"].map(says));
    let client = OpenAi::of(&story);
    let first = client.create(json!({"input": "1", "conversation": "s", "instructions": "Count."})).await;
    let second = client.create(json!({"input": "2", "conversation": {"id": "s"}, "metadata": {"n": "2"}})).await;
    assert_eq!((&first["conversation"], &second["conversation"]), (&json!({"id": "s"}), &json!({"id": "s"})));
    assert_eq!((&second["instructions"], &second["metadata"]), (&json!("Count."), &json!({"n": "2"})));
    story.receipt(json!({"type": "send", "content": "3"})).await;
    story.idle().await;
    client.create(json!({"input": "4", "conversation": "s", "stream": false})).await;
    assert_eq!(users(&story, 3), ["1", "2", "3", "4"]);
    for (response, said) in [(&first, "one"), (&second, "two")] {
        assert_eq!(text(&client.retrieve(id(response)).await), said);
        assert_eq!(client.retrieve(id(response)).await, *response);
        let refused = refusal(&client.client.delete(&format!("{RESPONSES}/{}", id(response))).await);
        assert_eq!((refused.status, refused.code.as_str()), (400, "conversation_not_empty"));
        assert!(refused.message.contains("/v1/sessions/s"));
    }
    let items = client.input_items(id(&second)).await;
    assert_eq!(items.len(), 3, "what was before it");
    // A chain from the middle of it is a session of its own.
    let branch = client.create(json!({"input": "2b", "previous_response_id": id(&first)})).await;
    assert_ne!(branch["conversation"]["id"], "s");
    assert_eq!(users(&story, 4), ["1", "2b"]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_keeps_its_settings_or_says_that_it_does() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let begun = json!({"input": "1", "conversation": "s", "instructions": "Count.", "temperature": 0.5, "max_output_tokens": 9,
                       "tools": [function("look"), steerage("always")], "reasoning": {"effort": "low"}, "top_k": 7});
    client.create(begun.clone()).await;
    // Clients send the same settings with every request, or none.
    client.create(begun.clone()).await;
    client.create(json!({"input": "2", "conversation": "s"})).await;
    client.create(json!({"input": "2", "conversation": "s", "model": "m"})).await;
    let mut schema = function("look");
    schema["parameters"] = json!({"type": "object", "required": ["at"]});
    for (param, other) in [
        ("model", json!("demo/echo")),
        ("instructions", json!("Sing.")),
        ("tools", json!([function("hear")])),
        ("tools", json!([schema])),
        ("tools", json!([steerage("never")])),
        ("temperature", json!(0.9)),
        ("top_p", json!(0.9)),
        ("max_output_tokens", json!(10)),
        ("reasoning", json!({"effort": "high"})),
        ("tool_choice", json!("required")),
        ("top_k", json!(8)),
    ] {
        let mut body = begun.clone();
        body[param] = other.clone();
        let refused = client.refused(body).await;
        let named = refused.param.clone().unwrap_or_default();
        assert_eq!((refused.status, refused.code.as_str()), (400, "unsupported_value"), "{param} {other}");
        assert!(param == named || named == "reasoning_effort", "{param}: {refused:?}");
    }
    let system = json!([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]);
    assert_eq!(client.refused(json!({"conversation": "s", "input": system})).await.param.as_deref(), Some("input"));
    // A client that keeps the history sends all of it, and what follows the last answer is new.
    let history = json!([{"role": "user", "content": "1"}, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "9"}]);
    client.create(json!({"conversation": "s", "input": history})).await;
    assert_eq!(users(&story, 4), ["1", "1", "2", "2", "9"]);
    let nothing = client.refused(json!({"conversation": "s"})).await;
    assert_eq!((nothing.status, nothing.param.as_deref()), (400, Some("input")));
}

#[tokio::test(start_paused = true)]
async fn one_thing_is_said_at_a_time() {
    let story = Story::new([endless("One"), says("two")]);
    let client = OpenAi::of(&story);
    let begun = client.create(json!({"input": "1", "conversation": "s", "background": true})).await;
    for body in
        [json!({"input": "2", "conversation": "s"}), json!({"input": "2", "conversation": "s", "background": true})]
    {
        let refused = client.refused(body).await;
        assert_eq!((refused.status, refused.code.as_str()), (400, "run_active"));
    }
    client.cancel(id(&begun)).await;
    assert_eq!(text(&client.create(json!({"input": "2", "conversation": "s"})).await), "two");
    assert_eq!(users(&story, 1), ["1", "2"], "what was refused was not said");
}

#[tokio::test(start_paused = true)]
async fn two_that_begin_it_at_once_are_one_conversation() {
    let story = Story::new([endless("One"), endless("Two")]);
    let client = OpenAi::of(&story);
    let post = |text: &str| client.post(RESPONSES, json!({"input": text, "conversation": "s", "background": true}));
    let (a, b) = tokio::join!(post("a"), post("b"));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    let lost = if a.status == 400 { a } else { b };
    assert_eq!(refusal(&lost).code, "run_active");
    assert_eq!(story.model.prompts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn functions_are_answered_in_it_all_of_them_at_once() {
    let story = Story::new([
        calls(&[("look", json!({"at": "sky"})), ("look", json!({"at": "sea"}))]),
        says("Blue."),
        says("ok"),
    ]);
    let client = OpenAi::of(&story);
    let asked = client.create(json!({"input": "Look", "conversation": "s", "tools": [function("look")]})).await;
    assert_eq!(asked["status"], "completed");
    let made = of(&asked, "function_call");
    let say = |items: Value| json!({"conversation": "s", "input": items});
    let partly = client.refused(say(json!([output(&made[0], "high")]))).await;
    let says = format!("No tool output found for function call {}.", made[1]["call_id"].as_str().unwrap());
    assert_eq!((partly.status, partly.message), (400, says));
    let passed_over = client.refused(say(json!("Never mind"))).await;
    assert!(passed_over.message.starts_with("No tool output found for function call "), "{passed_over:?}");
    let unknown =
        json!([output(&made[0], "high"), output(&made[1], "wet"), output(&json!({"call_id": "call_x"}), "?")]);
    assert_eq!(client.refused(say(unknown)).await.status, 400);
    assert_eq!(story.model.prompts().len(), 1, "what is refused has no effect");
    let log = story.log().await;
    assert!(log.iter().all(|event| event["type"] != "tool.completed"), "not even half of one");
    let results = json!([output(&made[0], "high"), output(&made[1], "wet"), {"role": "user", "content": "So?"}]);
    let second = client.create(say(results.clone())).await;
    assert_eq!((text(&second).as_str(), &second["status"]), ("Blue.", &json!("completed")));
    assert_ne!(second["id"], asked["id"]);
    let messages = &story.model.prompts()[1].messages;
    let outcomes = messages.iter().filter_map(|message| match message {
        Message::Tool { outcome: Outcome::Output(output), .. } => output.as_str(),
        _ => None,
    });
    assert_eq!(outcomes.collect::<Vec<_>>(), ["high", "wet"]);
    assert_eq!(users(&story, 1), ["Look", "So?"]);
    let again = client.refused(say(json!([output(&made[0], "low"), output(&made[1], "dry")]))).await;
    assert_eq!(again.status, 400, "{again:?}");
    assert_eq!(text(&client.create(say(json!("More"))).await), "ok");
    // Both responses are what they were.
    assert_eq!(client.retrieve(id(&asked)).await, asked);
    assert_eq!(client.retrieve(id(&second)).await, second);
}

#[tokio::test(start_paused = true)]
async fn a_function_has_one_result() {
    let story = Story::new([calls(&[("look", json!({}))]), says("Blue.")]);
    let client = OpenAi::of(&story);
    let asked = client.create(json!({"input": "Look", "conversation": "s", "tools": [function("look")]})).await;
    let call = &of(&asked, "function_call")[0];
    let say = |items: Value| json!({"conversation": "s", "input": items});
    let refused = client.refused(say(json!([output(call, "high"), output(call, "low")]))).await;
    assert_eq!(refused.status, 400);
    let long = json!({"role": "user", "content": "x".repeat(17 * 1024)});
    assert_eq!(client.refused(say(json!([output(call, "high"), long]))).await.status, 413);
    assert_eq!(story.model.prompts().len(), 1, "nothing of it was taken");
    assert_eq!(story.snapshot().await["queue"], json!([]));
    let high = "high".repeat(50_000);
    assert_eq!(client.refused(say(json!([output(call, &high), output(call, &high)]))).await.status, 400);
    assert_eq!(text(&client.create(say(json!([output(call, &high)]))).await), "Blue.", "however long it is");
}

#[tokio::test(start_paused = true)]
async fn a_native_client_may_answer_a_function_or_go_past_it() {
    let story =
        Story::new([calls(&[("look", json!({}))]), says("Blue."), calls(&[("look", json!({}))]), says("Fine.")]);
    let client = OpenAi::of(&story);
    let asked = client.create(json!({"input": "Look", "conversation": "s", "tools": [function("look")]})).await;
    let call_id = of(&asked, "function_call")[0]["call_id"].clone();
    story.receipt(json!({"type": "tool_result", "call_id": call_id, "output": "high"})).await;
    story.idle().await;
    let late =
        client.refused(json!({"conversation": "s", "input": [output(&json!({"call_id": call_id}), "low")]})).await;
    assert_eq!(late.status, 400, "{late:?}");
    client.create(json!({"input": "Look", "conversation": "s"})).await;
    story.receipt(json!({"type": "send", "content": "Never mind"})).await;
    story.idle().await;
    let last = client.create(json!({"input": "Bye", "conversation": "s"})).await;
    assert_eq!(text(&last), "ok");
}
