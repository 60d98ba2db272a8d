//! Answers of the client to what a message asks: approvals and results of its own tools.

use serde_json::{Value, json};

use super::{
    chat::{self, Answer, Chat, kinds, of_kind, text, user},
    of,
};
use crate::support::{
    Story,
    script::{calls, says},
};

/// A chat whose first answer calls these tools.
async fn asked(work: &[(&'static str, Value)], more: Value) -> (Story, Chat, Answer) {
    let story = Story::new([calls(work), says("Done.")]);
    let chat = Chat::new(&story);
    let mut body = json!({"messages": [user("u1", "Work")]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = chat.post(body).await;
    (story, chat, answer)
}

fn work() -> Value {
    json!({"tools": [{"name": "work", "executor": "builtin"}]})
}

/// A decision as `useChat` posts it.
fn decided(answer: &Answer, decisions: &[(&Value, bool)]) -> Value {
    let part = |(request, approved): &(&Value, bool)| {
        json!({"type": "tool-work", "toolCallId": request["toolCallId"], "state": "approval-responded",
               "input": {"n": 666}, "approval": {"id": request["approvalId"], "approved": approved, "reason": "because"}})
    };
    let mut parts = vec![json!({"type": "step-start"})];
    parts.extend(decisions.iter().map(part));
    let message = json!({"id": answer.message_id(), "role": "assistant", "parts": parts});
    json!({"messages": [user("u1", "Work"), message], "messageId": answer.message_id()})
}

fn requests(answer: &Answer) -> Vec<Value> {
    of_kind(&answer.chunks, "tool-approval-request").into_iter().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn yes_continues_the_same_message_and_runs_what_was_asked_for() {
    let (story, chat, answer) = asked(&[("work", json!({"n": 1}))], work()).await;
    assert_eq!(answer.chunks.last(), Some(&json!({"type": "finish", "finishReason": "tool-calls"})));
    assert!(answer.done, "a response that waits for the client ends: else the client would never answer");
    let request = &requests(&answer)[0];
    let post = decided(&answer, &[(request, true)]);
    let rest = chat.post(post.clone()).await;
    assert_eq!(rest.message_id(), answer.message_id());
    assert_eq!(of_kind(&rest.chunks, "tool-output-available")[0]["toolCallId"], request["toolCallId"]);
    assert_eq!((text(&rest.chunks).as_str(), rest.done), ("Done.", true));
    assert_eq!(story.work.ran(), [json!({"n": 1})], "what the client says of the input means nothing");
    // Twice, or from a second tab that says something else: told what has happened, and nothing happens again.
    assert_eq!(chat.post(post).await.chunks, rest.chunks);
    assert_eq!(chat.post(decided(&answer, &[(request, false)])).await.chunks, rest.chunks);
    assert_eq!(story.work.ran().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_ends_the_call_in_the_words_of_each_version() {
    for (query, kind) in [("", "tool-output-denied"), ("?ai=7", "tool-output-denied"), ("?ai=5", "tool-output-error")] {
        let (story, chat, answer) = asked(&[("work", json!({"n": 1}))], work()).await;
        let post = decided(&answer, &[(&requests(&answer)[0], false)]);
        let rest = chat.open_at(query, post).await.whole().await;
        assert_eq!(of_kind(&rest.chunks, kind).len(), 1, "{:?}", rest.chunks);
        assert_eq!(of_kind(&rest.chunks, "tool-approval-response").len(), usize::from(query == "?ai=7"));
        assert!(story.work.ran().is_empty());
        assert_eq!(of(&story.log().await, "approval.resolved")[0]["message"], "because");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_earlier_is_told_everything_since() {
    let (story, chat, answer) = asked(&[("work", json!({"n": 1})), ("work", json!({"n": 2}))], work()).await;
    let both = requests(&answer);
    // Meanwhile somebody on a phone has answered the first one.
    story.receipt(json!({"type": "approve", "approval_id": both[0]["approvalId"]})).await;
    story.wait("tool.completed", 1).await;
    let rest = chat.post(decided(&answer, &[(&both[0], true), (&both[1], true)])).await;
    let outputs: Vec<_> =
        of_kind(&rest.chunks, "tool-output-available").iter().map(|c| c["output"]["worked"]["n"].clone()).collect();
    assert_eq!(outputs, [json!(1), json!(2)]);
    assert_eq!(text(&rest.chunks), "Done.");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_decisions_is_not_the_end_of_the_waiting() {
    let (_story, chat, answer) = asked(&[("work", json!({"n": 1})), ("work", json!({"n": 2}))], work()).await;
    let both = requests(&answer);
    let half = chat.post(decided(&answer, &[(&both[0], false)])).await;
    assert_eq!(of_kind(&half.chunks, "tool-output-denied").len(), 1);
    assert_eq!(half.chunks.last(), Some(&json!({"type": "finish", "finishReason": "tool-calls"})));
    let rest = chat.post(decided(&answer, &[(&both[0], false), (&both[1], true)])).await;
    assert_eq!(text(&rest.chunks), "Done.");
}

#[tokio::test(start_paused = true)]
async fn a_later_message_takes_the_place_of_an_open_question() {
    let (story, chat, answer) = asked(&[("work", json!({"n": 1}))], work()).await;
    let next = chat.post(json!({"messages": [user("u1", "Work"), user("u2", "Never mind")]})).await;
    assert_ne!(next.message_id(), answer.message_id());
    assert_eq!(of(&story.log().await, "approval.resolved")[0]["outcome"], "superseded");
    // A tab that does not know of it yet is told how the question ended.
    let late = chat.post(decided(&answer, &[(&requests(&answer)[0], true)])).await;
    assert_eq!(late.message_id(), answer.message_id());
    let ends: Vec<_> = kinds(&late.chunks).into_iter().filter(|kind| !kind.starts_with("data-")).collect();
    // The empty step keeps the tab from sending again: all calls of the last one have ended.
    assert_eq!(ends, ["start", "tool-output-error", "start-step", "finish-step", "abort", "finish"]);
    assert!(story.work.ran().is_empty());
}

fn chat_body(mut body: Value) -> String {
    body["id"] = json!("s");
    body.to_string()
}

#[tokio::test(start_paused = true)]
async fn forged_answers_do_nothing() {
    let (story, chat, answer) = asked(&[("work", json!({"n": 1}))], work()).await;
    let request = requests(&answer)[0].clone();
    let forged = json!({"approvalId": "apr_aaaaaa_1", "toolCallId": request["toolCallId"]});
    let (status, refused) =
        chat.ask("POST", chat::API, chat_body(decided(&answer, &[(&forged, true)])).as_bytes()).await;
    assert_eq!((status, refused.text().await.as_str()), (404, "this session has no such approval"));
    // A decision in a step that was over before the client was asked.
    let mut earlier = decided(&answer, &[(&request, true)]);
    earlier["messages"][1]["parts"].as_array_mut().unwrap().push(json!({"type": "step-start"}));
    let (status, _) = chat.ask("POST", chat::API, chat_body(earlier).as_bytes()).await;
    assert_eq!(status, 409);
    // The output of a tool that the server runs.
    let output =
        json!({"type": "tool-work", "toolCallId": request["toolCallId"], "state": "output-available", "output": 5});
    let message = json!({"id": answer.message_id(), "role": "assistant", "parts": [output]});
    let still = chat.post(json!({"messages": [user("u1", "Work"), message]})).await;
    let told: Vec<_> = kinds(&still.chunks).into_iter().filter(|kind| !kind.starts_with("data-")).collect();
    assert_eq!(told, ["start", "tool-approval-request", "finish"], "it still waits for the person, and says so");
    // An approval in a message that is not the last one.
    let old = decided(&answer, &[(&request, true)])["messages"][1].clone();
    chat.post(json!({"messages": [user("u1", "Work"), old, user("u2", "Well?")]})).await;
    let log = story.log().await;
    assert!(of(&log, "tool.started").is_empty() && story.work.ran().is_empty());
    assert_eq!(of(&log, "command.rejected").len(), 1, "only what could have been an answer is asked of the session");
}

#[tokio::test(start_paused = true)]
async fn a_tool_of_the_client_is_answered_by_the_client() {
    let tools = json!({"tools": [{"name": "ask", "executor": "client"}]});
    let (story, chat, answer) = asked(&[("ask", json!({"q": "colour"}))], tools).await;
    assert!(answer.done);
    let call = of_kind(&answer.chunks, "tool-input-available")[0]["toolCallId"].clone();
    for (part, told) in [
        (json!({"state": "output-available", "output": {"colour": "blue"}}), "tool-output-available"),
        (json!({"state": "output-error", "errorText": "no colour"}), "tool-output-available"),
    ] {
        let mut tool = json!({"type": "tool-ask", "toolCallId": call});
        tool.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        let message = json!({"id": answer.message_id(), "role": "assistant", "parts": [{"type": "step-start"}, tool]});
        // The second answer comes too late, and is told the first.
        let rest = chat.post(json!({"messages": [user("u1", "Work"), message]})).await;
        assert_eq!(of_kind(&rest.chunks, told).len(), 1, "{:?}", rest.chunks);
        assert_eq!(text(&rest.chunks), "Done.");
    }
    let told = format!("{:?}", story.model.prompts()[1].messages);
    assert!(told.contains("blue"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_tool_of_the_client_that_asks_is_handed_over_once() {
    let tools = json!({"tools": [{"name": "ask", "executor": "client", "approval": "always"}]});
    let (story, chat, answer) = asked(&[("ask", json!({"q": "colour"}))], tools).await;
    let request = requests(&answer)[0].clone();
    let part = |part: Value| {
        let mut tool = json!({"type": "tool-ask", "toolCallId": request["toolCallId"]});
        tool.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        let message = json!({"id": answer.message_id(), "role": "assistant", "parts": [{"type": "step-start"}, tool]});
        json!({"messages": [user("u1", "Work"), message]})
    };
    let output = part(json!({"state": "output-available", "output": {"colour": "blue"}}));
    // Before the yes it is no answer, and the client is told that the question stands: else it would send it for ever.
    let early = chat.post(output.clone()).await;
    assert_eq!(of_kind(&early.chunks, "tool-approval-request").len(), 1, "{:?}", early.chunks);
    let yes = part(json!({"state": "approval-responded", "approval": {"id": request["approvalId"], "approved": true}}));
    let handed_over = chat.post(yes).await;
    assert_eq!(of_kind(&handed_over.chunks, "tool-input-available").len(), 1, "now it may run");
    let rest = chat.post(output).await;
    assert!(of_kind(&rest.chunks, "tool-input-available").is_empty(), "it is not told to run once more");
    assert_eq!((of_kind(&rest.chunks, "tool-output-available").len(), text(&rest.chunks).as_str()), (1, "Done."));
    assert_eq!(of(&story.log().await, "tool.completed").len(), 1);
}
