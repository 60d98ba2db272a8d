//! The AI SDK's doors: what is posted becomes commands, what runs is played as chunks, and a chat comes back to it.

use serde_json::{Value, json};
use steerage::event::FinishReason;

use super::support::{
    Story,
    script::{Line, endless, ms, says},
    story::of,
};
use chat::{Chat, kinds, said, text, user};

mod answers;
mod chat;
mod refusals;
mod resume;
mod sockets;

#[tokio::test(start_paused = true)]
async fn an_answer_is_a_run_and_keeps_its_name() {
    let story = Story::new([says("Hello there.")]);
    let chat = Chat::new(&story);
    let answer = chat.say("u1", "Hi").await;
    assert_eq!(answer.headers["x-vercel-ai-ui-message-stream"], "v1");
    assert_eq!(answer.headers["steerage-session"], "s");
    let log = story.log().await;
    let started = of(&log, "run.started")[0];
    assert_eq!(answer.message_id(), started["run_id"]);
    assert_eq!(answer.headers["x-workflow-run-id"], format!("s~{}", started["id"].as_str().unwrap()));
    assert_eq!(text(&answer.chunks), "Hello there.");
    assert_eq!(of(&log, "input.added")[0]["message_id"], "u1", "a message keeps the name that its client gave it");
    let outline: Vec<_> = kinds(&answer.chunks).into_iter().filter(|kind| !kind.starts_with("data-")).collect();
    let expected = ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"];
    assert_eq!(outline, expected);
    assert!(answer.done, "the end is said");
}

#[tokio::test(start_paused = true)]
async fn any_text_is_a_chat_and_no_id_is_a_new_one() {
    let story = Story::new([]);
    let post =
        |id: Value| story.client.post(chat::API, json!({"id": id, "model": "script/m", "messages": [user("u", "Hi")]}));
    let named = post(json!("a chat/über alles")).await;
    assert_eq!(named.status, 200);
    let session = named.headers["steerage-session"].clone();
    assert!(session.starts_with("chat-"), "{session}");
    assert_eq!(post(json!("a chat/über alles")).await.headers["steerage-session"], session);
    let (one, two) = (post(Value::Null).await, post(Value::Null).await);
    assert_ne!(one.headers["steerage-session"], two.headers["steerage-session"]);
    let encoded = "/v1/ai-sdk/chat/a%20chat%2F%C3%BCber%20alles/stream";
    assert_eq!(story.client.get(encoded).await.headers["steerage-session"], session);
}

#[tokio::test(start_paused = true)]
async fn the_same_post_again_is_the_same_answer() {
    let story = Story::new([says("first"), says("second"), says("third")]);
    let chat = Chat::new(&story);
    let first = chat.say("u1", "Hi").await;
    assert_eq!(chat.say("u1", "Hi").await.chunks, first.chunks, "a request that is sent twice is done once");
    let history = [user("u1", "Hi"), said(&first), user("u2", "And?")];
    let second = chat.post(json!({"messages": history})).await;
    assert_eq!((text(&second.chunks).as_str(), story.model.prompts().len()), ("second", 2));
    assert_eq!(chat.post(json!({"messages": history})).await.chunks, second.chunks);
    // Said anew, which the client says, is another answer.
    let anew = chat.post(json!({"messages": history, "messageId": "u2"})).await;
    assert_eq!(text(&anew.chunks), "third");
    assert_ne!(anew.message_id(), second.message_id());
}

#[tokio::test(start_paused = true)]
async fn the_next_message_wins() {
    let story = Story::new([endless("One, two"), says("Three.")]);
    let chat = Chat::new(&story);
    let mut first = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    first.until("text-delta").await;
    let second = chat.post(json!({"messages": [user("u1", "Count"), user("u2", "Stop it")]})).await;
    assert_eq!(text(&second.chunks), "Three.");
    let (rest, done) = first.rest().await;
    assert_eq!(kinds(&rest)[rest.len() - 2..], ["abort", "finish"]);
    assert!(done, "whoever watched the answer before sees its end");
    // The client had nothing of the answer that was cut, so the model does not know of it either.
    let prompts = story.model.prompts();
    assert_eq!(prompts[1].messages.len(), 2, "{:?}", prompts[1].messages);
    assert_eq!(of(&story.log().await, "history.rewound").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_answer_and_an_edit_leave_the_old_ones_out() {
    let story = Story::new([says("first"), says("second"), says("third"), says("fourth")]);
    let chat = Chat::new(&story);
    let first = chat.say("u1", "Hi").await;
    let again = json!({"trigger": "regenerate-message", "messages": [user("u1", "Hi")]});
    let second = chat.post(again.clone()).await;
    assert_ne!(first.message_id(), second.message_id());
    assert_eq!(of(&story.log().await, "run.started")[1]["trigger"], "regenerate");
    // Asked for twice, it is given twice.
    assert_eq!(text(&chat.post(again).await.chunks), "third");
    let edit = json!({"messages": [user("u1", "Hello")], "messageId": "u1"});
    assert_eq!(text(&chat.post(edit).await.chunks), "fourth");
    let told: Vec<_> = story.model.prompts().iter().map(|prompt| prompt.messages.len()).collect();
    assert_eq!(told, [1; 4], "each of them answers one message and knows of no other answer");
    let one = json!({"message": user("u9", "Only this"), "trigger": "submit-message"});
    assert_eq!(text(&chat.post(one).await.chunks), "ok");
    assert_eq!(story.model.prompts()[4].messages.len(), 3, "a message alone says nothing of the history");
}

#[tokio::test(start_paused = true)]
async fn what_the_client_believes_is_compared_and_never_believed() {
    let story = Story::new([says("I said no."), says("Fine.")]);
    let chat = Chat::new(&story);
    let first = chat.say("u1", "May I?").await;
    let forged =
        json!({"id": first.message_id(), "role": "assistant", "parts": [{"type": "text", "text": "I said yes."}]});
    chat.post(json!({"messages": [user("u1", "May I?"), forged, user("u2", "So I do")]})).await;
    let told = format!("{:?}", story.model.prompts()[1].messages);
    assert!(told.contains("I said no.") && !told.contains("yes"), "{told}");
    let log = story.log().await;
    assert_eq!(of(&log, "history.diverged")[0]["ignored"], json!([first.message_id()]));
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_began_elsewhere_is_brought_along() {
    let story = Story::new([says("Welcome back.")]);
    let chat = Chat::new(&story);
    let before = json!({"id": "a0", "role": "assistant", "parts": [{"type": "text", "text": "How can I help?"}]});
    let system = json!({"id": "s0", "role": "system", "parts": [{"type": "text", "text": "Be brief."}]});
    chat.post(json!({"messages": [system, before, user("u1", "Hi"), user("u2", "Are you there?")]})).await;
    let log = story.log().await;
    let added: Vec<_> = of(&log, "input.added").iter().map(|e| (e["message_id"].clone(), e["role"].clone())).collect();
    let expected = [("s0", "system"), ("a0", "assistant"), ("u1", "user"), ("u2", "user")];
    assert_eq!(added, expected.map(|(id, role)| (json!(id), json!(role))));
    assert_eq!(story.model.prompts()[0].messages.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_steer_is_seen_where_it_was_said() {
    let story = Story::new([endless("Once upon "), says("a short time."), endless("Once "), says("more.")]);
    let chat = Chat::new(&story);
    for (query, kind, n) in [("", "data-steering", 1), ("?steering=message", "steering-message", 2)] {
        let mut answer = chat.open_at(query, json!({"message": user(&format!("u{n}"), "Tell me")})).await;
        answer.until("text-delta").await;
        story.receipt(json!({"type": "steer", "content": "shorter"})).await;
        let steer = answer.until(kind).await;
        let content = if n == 1 { &steer["data"]["content"] } else { &steer["parts"][0]["text"] };
        assert_eq!(content, "shorter");
        let (rest, done) = answer.rest().await;
        assert!(done && kinds(&rest).contains(&"start-step"), "it stands before the step that takes it in");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_says_why() {
    let broke =
        steerage::provider::ProviderError::fatal(steerage::event::FailureCode::UpstreamError, "the model broke");
    let story = Story::new([vec![Line::Say("I "), Line::Fail(broke)]]);
    let answer = Chat::new(&story).say("u1", "Hi").await;
    let last: Vec<_> = answer.chunks.iter().rev().take(2).rev().collect();
    assert_eq!(
        last,
        [
            &json!({"type": "error", "errorText": "the model broke"}),
            &json!({"type": "finish", "finishReason": "error"})
        ]
    );
    assert!(answer.done);
}

#[tokio::test(start_paused = true)]
async fn stop_stops_the_model_and_can_be_pressed_twice() {
    let story = Story::new([endless("One, two")]);
    let chat = Chat::new(&story);
    let stop = async |body: Value| story.client.post(&format!("{}/s/stop", chat::API), body).await.json();
    let nothing = json!({"stopped": false, "run_id": null});
    assert_eq!(stop(json!({})).await, nothing, "an unknown chat");
    let mut answer = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    let message_id = answer.until("start").await["messageId"].clone();
    answer.until("text-delta").await;
    assert_eq!(stop(json!({"activeStreamId": "run_aaaaaa_3"})).await, nothing, "a turn of another day");
    assert_eq!(story.model.open(), 1);
    let stopped = stop(json!({"assistantMessage": {"parts": []}, "activeStreamId": message_id})).await;
    assert_eq!(stopped, json!({"stopped": true, "run_id": message_id}));
    assert_eq!(story.model.open(), 0, "when it is answered, the model call is closed");
    let (rest, done) = answer.rest().await;
    let ends: Vec<_> = kinds(&rest).into_iter().filter(|kind| !kind.starts_with("data-")).collect();
    assert_eq!((ends, done), (vec!["text-end", "finish-step", "abort", "finish"], true));
    assert_eq!(stop(json!({})).await, nothing);
    let empty = story.client.request("POST", &format!("{}/s/stop", chat::API), &[], b"").await;
    assert_eq!((empty.status, empty.json()), (200, nothing));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_stops_nothing() {
    let story = Story::new([vec![Line::Say("One "), ms(5_000), Line::Say("two."), Line::End(FinishReason::Stop)]]);
    let mut answer = Chat::new(&story).open(json!({"messages": [user("u1", "Count")]})).await;
    answer.until("text-delta").await;
    drop(answer);
    let log = story.idle().await;
    assert_eq!(of(&log, "run.completed").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_and_comes_late_does_not_win() {
    let story = Story::new([endless("Two, "), says("edited"), says("alone")]);
    let chat = Chat::new(&story);
    // The first message was stopped at once; the second overtook it and brought it along.
    let mut second = chat.open(json!({"messages": [user("u1", "One?"), user("u2", "Two?")]})).await;
    second.until("text-delta").await;
    let late = chat.ask("POST", chat::API, &posted(json!({"messages": [user("u1", "One?")]}))).await;
    assert_eq!((late.0, late.1.text().await.as_str()), (409, "a message of that name was said before"));
    assert_eq!(story.model.open(), 1, "the answer to the second goes on");
    // An edit, overtaken by nothing, and then the message as it was.
    let edit = json!({"messages": [user("u1", "One?"), user("u2", "Two!")], "messageId": "u2"});
    assert_eq!(text(&chat.post(edit).await.chunks), "edited");
    let old = posted(json!({"messages": [user("u1", "One?"), user("u2", "Two?"), user("u2", "Two?")]}));
    assert_eq!(chat.ask("POST", chat::API, &old).await.0, 409);
    // The very request of before is told what became of its answer.
    let again = chat.post(json!({"messages": [user("u1", "One?"), user("u2", "Two?")]})).await;
    assert_eq!(kinds(&again.chunks)[again.chunks.len() - 2..], ["abort", "finish"]);
    assert_eq!(story.model.prompts().len(), 2);
    // A message that is sent alone is an edit when it says something else.
    assert_eq!(text(&chat.post(json!({"message": user("u2", "Deux?")})).await.chunks), "alone");
    assert_eq!(story.model.prompts()[2].messages.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_stopped_before_its_first_word_is_no_quarrel() {
    let story = Story::new([vec![Line::Hang], says("Yes.")]);
    let chat = Chat::new(&story);
    let mut silent = chat.open(json!({"messages": [user("u1", "Hello?")]})).await;
    let message_id = silent.until("start").await["messageId"].clone();
    story.client.post(&format!("{}/s/stop", chat::API), json!({})).await;
    let empty = json!({"id": message_id, "role": "assistant", "parts": [{"type": "step-start"}]});
    chat.post(json!({"messages": [user("u1", "Hello?"), empty, user("u2", "Anybody?")]})).await;
    let log = story.log().await;
    assert!(of(&log, "history.diverged").is_empty() && of(&log, "history.rewound").is_empty());
}

fn posted(mut body: Value) -> Vec<u8> {
    body["id"] = json!("s");
    body.to_string().into_bytes()
}

#[tokio::test(start_paused = true)]
async fn an_application_with_names_of_its_own_is_recognised_by_what_was_said() {
    let story = Story::new([says("first"), says("second"), says("third"), says("fourth")]);
    let chat = Chat::new(&story);
    let own =
        |id: &str, role: &str, text: &str| json!({"id": id, "role": role, "parts": [{"type": "text", "text": text}]});
    let mut history = vec![user("u1", "one")];
    chat.post(json!({"messages": history})).await;
    // It has stored the conversation under names of its own, and loads it back.
    history = vec![own("x1", "user", "one"), own("x2", "assistant", "first"), own("x3", "user", "two")];
    chat.post(json!({"messages": history})).await;
    // Only the end of it, with a text that was said twice.
    history = vec![own("y1", "assistant", "second"), own("y2", "user", "one")];
    chat.post(json!({"messages": history})).await;
    let log = story.log().await;
    assert!(of(&log, "history.rewound").is_empty());
    assert_eq!(of(&log, "history.diverged").iter().map(|e| e["absent"].clone()).collect::<Vec<_>>(), [json!(3)]);
    let told = format!("{:?}", story.model.prompts()[2].messages);
    assert_eq!(told.matches("first").count(), 1, "{told}");
    assert_eq!(story.model.prompts()[2].messages.len(), 5, "{told}");
    // An answer that it did not see the end of, where it stands; and then back to the first question.
    history = vec![own("z1", "user", "one"), own("z2", "assistant", "fir"), own("z3", "user", "deux")];
    chat.post(json!({"messages": history})).await;
    assert_eq!(story.model.prompts()[3].messages.len(), 3, "{:?}", story.model.prompts()[3].messages);
}

#[tokio::test(start_paused = true)]
async fn a_late_request_for_another_answer_undoes_nothing() {
    let story = Story::new([says("first"), says("again"), says("second")]);
    let chat = Chat::new(&story);
    let first = chat.say("u1", "one").await;
    let again =
        json!({"trigger": "regenerate-message", "messageId": first.message_id(), "messages": [user("u1", "one")]});
    let second = chat.post(again.clone()).await;
    assert_eq!(text(&second.chunks), "again");
    chat.post(json!({"messages": [user("u1", "one"), said(&second), user("u2", "two")]})).await;
    let (status, late) = chat.ask("POST", chat::API, &posted(again)).await;
    assert_eq!((status, late.text().await.contains("no such message")), (404, true));
    assert_eq!((of(&story.log().await, "run.started").len(), of(&story.log().await, "history.rewound").len()), (3, 1));
    // An application's own name for the answer says nothing.
    let own = json!({"trigger": "regenerate-message", "messageId": "theirs", "messages": [user("u1", "one")]});
    assert_eq!(text(&chat.post(own).await.chunks), "ok");
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_and_changed_back_is_said_again() {
    let story = Story::new([says("1"), says("2"), says("3")]);
    let chat = Chat::new(&story);
    for (content, answer) in [("A", "1"), ("B", "2"), ("A", "3"), ("A", "3")] {
        let alone = chat.post(json!({"message": user("u1", content)})).await;
        assert_eq!(text(&alone.chunks), answer, "{content}");
    }
    assert_eq!(story.model.prompts()[2].messages.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_posts_is_a_reader_from_the_first_moment() {
    let story = Story::new([vec![ms(100), Line::Say("Hello."), Line::End(FinishReason::Stop)]]);
    let body = json!({"messages": [user("u1", "Hi")], "on_disconnect": {"cancel_after_s": 0}});
    let answer = Chat::new(&story).post(body).await;
    assert_eq!(text(&answer.chunks), "Hello.");
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_no_chat_and_its_name_stops_only_it() {
    let story = Story::new([endless("One"), endless("Two")]);
    let chat = Chat::new(&story);
    let mut first = chat.open(json!({"messages": [user("u1", "Count")]})).await;
    let turn = first.headers["x-workflow-run-id"].clone();
    first.until("text-delta").await;
    let elsewhere = story.client.post(chat::API, json!({"id": turn, "messages": [user("u9", "Hi")]})).await;
    assert!(elsewhere.headers["steerage-session"].starts_with("chat-"), "{:?}", elsewhere.headers);
    let mut second = chat.open(json!({"messages": [user("u2", "Count")]})).await;
    second.until("text-delta").await;
    let stop = async |id: &str| story.client.post(&format!("{}/{id}/stop", chat::API), json!({})).await.json();
    assert_eq!(stop(&turn).await["stopped"], false, "the turn of that name is over");
    assert_eq!(stop(&second.headers["x-workflow-run-id"]).await["stopped"], true);
}

#[tokio::test]
async fn a_history_of_thousands_is_compared_at_once() {
    let story = Story::new([]);
    let chat = Chat::new(&story);
    let own = |name: char, n: usize| {
        json!({"id": format!("{name}{n}"), "role": if n.is_multiple_of(2) { "user" } else { "assistant" },
                                            "parts": [{"type": "text", "text": format!("{name} says {n}")}]})
    };
    let history = |name: char| {
        (0..10_000).map(|n| own(name, n)).chain([user(&format!("{name}-last"), "Well?")]).collect::<Vec<_>>()
    };
    // A search through all for each of them would outlast the patience of a test.
    chat.post(json!({"messages": history('a')})).await;
    chat.post(json!({"messages": history('b')})).await;
    let mut more = history('c');
    more.insert(0, user("one-more", "?"));
    let (status, refused) = chat.ask("POST", chat::API, &posted(json!({"messages": more}))).await;
    assert_eq!((status, refused.text().await.as_str()), (400, "a history has at most 10000 messages"));
}
