//! What a response follows: chains and branches, items that are referred to, histories that clients keep themselves.

use serde_json::{Value, json};
use steerage::provider::{Message, Outcome};

use super::client::{OpenAi, RESPONSES, answer, function, id, object, of, output, refusal, steerage, text};
use crate::support::{
    Story,
    script::{calls, endless, says},
};

/// What the model was told at that call, in short.
fn told(story: &Story, nth: usize) -> Vec<String> {
    let short = |message: &Message| match message {
        Message::System(text) => format!("s {text}"),
        Message::User(text) => format!("u {text}"),
        Message::Assistant { text, calls, .. } => {
            let calls: Vec<_> = calls.iter().map(|call| format!("{}({})", call.name, call.arguments)).collect();
            format!("a {text}{}", calls.join(" "))
        }
        Message::Tool { outcome: Outcome::Output(output), .. } => format!("t {output}"),
        Message::Tool { outcome, .. } => format!("t! {}", outcome.for_model(None)),
    };
    story.model.prompts()[nth].messages.iter().map(short).collect()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_everything_before_and_branches_anywhere() {
    let story = Story::new(["one", "two", "three", "deux", "other"].map(says));
    let client = OpenAi::of(&story);
    let first = client.create(json!({"input": "1", "instructions": "Count."})).await;
    let second = client.create(json!({"input": "2", "previous_response_id": id(&first)})).await;
    assert_eq!((&second["previous_response_id"], &second["instructions"]), (&first["id"], &Value::Null));
    let third = client.create(json!({"input": "3", "previous_response_id": id(&second)})).await;
    client.create(json!({"input": "2, en français", "previous_response_id": id(&first)})).await;
    assert_eq!(told(&story, 2), ["u 1", "a one", "u 2", "a two", "u 3"]);
    assert_eq!(told(&story, 3), ["u 1", "a one", "u 2, en français"]);
    assert!(story.model.prompts()[1].system.is_none(), "instructions are not inherited");
    // The chain stands by itself: what it was made of may go.
    for gone in [&first, &second] {
        assert_eq!(client.client.delete(&format!("{RESPONSES}/{}", id(gone))).await.status, 200);
    }
    client.create(json!({"input": "4", "previous_response_id": id(&third)})).await;
    assert_eq!(told(&story, 4), ["u 1", "a one", "u 2", "a two", "u 3", "a three", "u 4"]);
    let items = client.input_items(id(&third)).await;
    let texts: Vec<_> = items.iter().map(|item| item["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["1", "one", "2", "two", "3"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_ended_is_followed_by_nothing() {
    let story = Story::new([endless("One"), says("ok")]);
    let client = OpenAi::of(&story);
    let begun = client.create(json!({"input": "Count", "background": true})).await;
    let follow = json!({"input": "And?", "previous_response_id": id(&begun)});
    let refused = client.refused(follow.clone()).await;
    assert_eq!(
        (refused.status, refused.code.as_str(), refused.param.as_deref()),
        (400, "previous_response_in_progress", Some("previous_response_id"))
    );
    while text(&client.retrieve(id(&begun)).await).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    client.cancel(id(&begun)).await;
    client.create(follow).await;
    assert_eq!(told(&story, 1), ["u Count", "a One", "u And?"], "one that was cancelled is one that ended");
    for unknown in ["resp_x", "resp_nobody_abcdef_3", &format!("{}.2", id(&begun)), "§"] {
        let refused = client.refused(json!({"input": "And?", "previous_response_id": unknown})).await;
        assert_eq!((refused.status, refused.code.as_str()), (400, "previous_response_not_found"), "{unknown}");
    }
    let both = client.refused(json!({"input": "x", "previous_response_id": id(&begun), "conversation": "c"})).await;
    assert_eq!(both.status, 400);
}

#[tokio::test(start_paused = true)]
async fn results_of_functions_follow_the_calls_and_only_those() {
    let story = Story::new([
        calls(&[("look", json!({"at": "sky"})), ("look", json!({"at": "sea"}))]),
        says("Blue."),
        says("Red."),
    ]);
    let client = OpenAi::of(&story);
    let asked = client.create(json!({"input": "Look", "tools": [function("look")]})).await;
    let made = of(&asked, "function_call");
    let follow =
        |items: Value| json!({"previous_response_id": id(&asked), "input": items, "tools": [function("look")]});
    let missing = client.refused(follow(json!([output(&made[0], "high")]))).await;
    let says = format!("No tool output found for function call {}.", made[1]["call_id"].as_str().unwrap());
    assert_eq!((missing.status, missing.param.as_deref(), missing.message), (400, Some("input"), says));
    let unknown = client
        .refused(follow(json!([
            output(&made[0], "a"),
            output(&made[1], "b"),
            output(&json!({"call_id": "call_x"}), "c")
        ])))
        .await;
    assert_eq!(unknown.message, "No tool call found for function call output with call_id call_x.");
    let twice =
        client.refused(follow(json!([output(&made[0], "a"), output(&made[0], "b"), output(&made[1], "c")]))).await;
    assert_eq!(twice.status, 400);
    let nothing = client.refused(json!({"previous_response_id": id(&asked), "input": "Never mind"})).await;
    assert_eq!(nothing.status, 400, "{nothing:?}");
    assert_eq!(story.model.prompts().len(), 1);
    for (nth, colour) in [(1, "blue"), (2, "red")] {
        client.create(follow(json!([output(&made[1], colour), output(&made[0], "high"), user("So?")]))).await;
        let expected = [
            "u Look",
            "a look({\"at\":\"sky\"}) look({\"at\":\"sea\"})",
            "t \"high\"",
            &format!("t \"{colour}\""),
            "u So?",
        ];
        assert_eq!(told(&story, nth), expected, "a call is answered in each branch");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_is_referred_to_by_its_name() {
    let story = Story::new([
        calls(&[("look", json!({"at": "sky"})), ("look", json!({"at": "sea"}))]),
        says("Blue."),
        says("ok"),
        says("ok"),
    ]);
    let client = OpenAi::of(&story);
    let asked = client.create(json!({"input": "Look", "tools": [function("look")]})).await;
    let made = of(&asked, "function_call");
    let results = json!([output(&made[0], "high"), output(&made[1], "wet")]);
    let said = client.create(json!({"previous_response_id": id(&asked), "input": results})).await;
    // Of the response that begins with them, every item has a name, and by it the same is said again.
    let mut items = client.input_items(id(&said)).await;
    items.extend(said["output"].as_array().unwrap().clone());
    assert_eq!(items.len(), 6);
    let mut references: Vec<Value> =
        items.iter().map(|item| json!({"type": "item_reference", "id": item["id"]})).collect();
    references.push(user("Again"));
    client.create(json!({"input": references})).await;
    let expected =
        ["u Look", "a look({\"at\":\"sky\"}) look({\"at\":\"sea\"})", "t \"high\"", "t \"wet\"", "a Blue.", "u Again"];
    assert_eq!(told(&story, 2), expected);
    // The short spelling of a reference.
    client.create(json!({"input": [{"id": items[0]["id"]}, user("Again")]})).await;
    assert_eq!(told(&story, 3), ["u Look", "u Again"]);
    for unknown in
        ["msg_x", "msg_nobody_abcdef_3", "", "resp_x", &items[0]["id"].as_str().unwrap().replace("msg", "rs")]
    {
        let refused = client.refused(json!({"input": [user("a"), {"type": "item_reference", "id": unknown}]})).await;
        assert!([400, 404].contains(&refused.status), "{unknown}: {refused:?}");
        assert!(refused.param.as_deref().is_some_and(|param| param.starts_with("input[1]")), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_said_over_and_over_is_no_weapon() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let long = "x".repeat(1 << 20);
    let first = client.create(json!({"input": long})).await;
    let item = client.input_items(id(&first)).await[0]["id"].clone();
    let references = vec![json!({"type": "item_reference", "id": item}); 200];
    let refused = client.refused(json!({"input": references})).await;
    assert!([400, 413].contains(&refused.status), "{refused:?}");
    assert!(refused.code != "internal");
    assert_eq!(story.model.prompts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_the_client_keeps_is_taken_as_it_was_sent() {
    let story =
        Story::new([calls(&[("work", json!({"n": 1})), ("look", json!({"at": "sky"}))]), says("Blue."), says("Bye.")]);
    let client = OpenAi::of(&story);
    let tools = json!([function("look"), steerage("never")]);
    let mut history = vec![user("Look")];
    let turn = async |history: &mut Vec<Value>, said: Vec<Value>| {
        history.extend(said);
        let response = client.create(json!({"input": history, "tools": tools, "store": false})).await;
        history.extend(response["output"].as_array().unwrap().clone());
        response
    };
    let first = turn(&mut history, vec![]).await;
    let call = of(&first, "function_call")[0].clone();
    let second = turn(&mut history, vec![output(&call, "high")]).await;
    assert_eq!(text(&second), "Blue.");
    assert_ne!(first["conversation"], second["conversation"]);
    turn(&mut history, vec![user("Thanks")]).await;
    let told = told(&story, 2);
    assert_eq!(told.first().map(String::as_str), Some("u Look"));
    assert_eq!(told[told.len() - 2..], ["a Blue.", "u Thanks"]);
    assert!(told.contains(&r#"t "high""#.to_owned()), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("t ") && line.contains("worked")), "{told:?}");
    assert_eq!(story.work.ran().len(), 1, "what was done is not done again");
}

#[tokio::test(start_paused = true)]
async fn a_history_with_approvals_in_it_goes_on_where_it_waits() {
    let story = Story::new([
        calls(&[("work", json!({"n": 1}))]),
        calls(&[("work", json!({"n": 2}))]),
        says("Done."),
        says("Bye."),
    ]);
    let client = OpenAi::of(&story);
    let tools = json!([steerage("always")]);
    let mut history = vec![user("Work")];
    let mut sessions = Vec::new();
    for nth in 0..3 {
        let response = client.create(json!({"input": history, "tools": tools, "store": false})).await;
        sessions.push(response["conversation"]["id"].clone());
        history.extend(response["output"].as_array().unwrap().clone());
        let requests = of(&response, "mcp_approval_request");
        assert_eq!(requests.len(), usize::from(nth < 2));
        history.extend(requests.iter().map(|request| answer(request, true)));
    }
    assert!(sessions.iter().all(|session| *session == sessions[0]), "it is one run");
    assert_eq!(story.work.ran(), [json!({"n": 1}), json!({"n": 2})]);
    history.push(user("Thanks"));
    let last = client.create(json!({"input": history, "tools": tools, "store": false})).await;
    assert_eq!(text(&last), "Bye.");
    assert_ne!(last["conversation"]["id"], sessions[0], "everything before was settled");
    let told = told(&story, 3);
    assert_eq!(told.iter().filter(|line| line.contains("worked")).count(), 2, "{told:?}");
    assert_eq!(told[told.len() - 2..], ["a Done.", "u Thanks"]);
}

#[tokio::test(start_paused = true)]
async fn input_items_are_read_in_pages() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let said: Vec<Value> = (0..45).map(|n| user(&n.to_string())).collect();
    let response = client.create(json!({"input": said})).await;
    let path = format!("{RESPONSES}/{}/input_items", id(&response));
    let page = async |query: &str| client.client.get(&format!("{path}{query}")).await;
    let number = |item: &Value| item["content"][0]["text"].as_str().unwrap().parse::<usize>().unwrap();
    let newest = page("").await.json();
    let numbers: Vec<_> = newest["data"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(numbers, (25..45).rev().collect::<Vec<_>>());
    assert_eq!((&newest["object"], &newest["has_more"]), (&json!("list"), &json!(true)));
    assert_eq!((&newest["first_id"], &newest["last_id"]), (&newest["data"][0]["id"], &newest["data"][19]["id"]));
    for (order, limit) in [("asc", 1), ("asc", 7), ("desc", 20), ("desc", 44), ("asc", 45), ("desc", 100)] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let list = page(&format!("?order={order}&limit={limit}{after}")).await.json();
            seen.extend(list["data"].as_array().unwrap().iter().map(number));
            if list["has_more"] != true {
                break;
            }
            after = format!("&after={}", list["last_id"].as_str().unwrap());
        }
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, (0..45).collect::<Vec<_>>(), "{order} {limit}");
    }
    let last =
        page(&format!("?order=asc&after={}", client.input_items(id(&response)).await[44]["id"].as_str().unwrap()))
            .await
            .json();
    assert_eq!((&last["data"], &last["has_more"], &last["first_id"]), (&json!([]), &json!(false), &Value::Null));
    for bad in ["?limit=0", "?limit=101", "?limit=-1", "?limit=x", "?order=up", "?after=msg_x"] {
        assert_eq!(refusal(&page(bad).await).status, 400, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_clients_own_and_instructions_are_said_too() {
    let story = Story::new([]);
    let client = OpenAi::of(&story);
    let said = json!([
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"role": "assistant", "content": "How can I help?"},
        user("c"),
    ]);
    object(&client.post(RESPONSES, json!({"input": said, "instructions": "Be brief."})).await);
    let told = told(&story, 0);
    assert_eq!(told[0], "s Be kind.");
    assert_eq!(told[2..], ["a How can I help?", "u c"]);
}
