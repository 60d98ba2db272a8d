//! Approvals: a person's answer is an item of the next request, and every way in which it can come.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    client::{OpenAi, RESPONSES, answer, function, id, of, output, resumes_everywhere, steerage, text},
    replay::replay,
};
use crate::support::{
    Story,
    script::{Line, Work, calls, endless, says},
    story::of as events,
};

fn work(n: u32) -> (&'static str, Value) {
    ("work", json!({"n": n}))
}

/// A story that has come to its requests; the response that asks, and the requests.
async fn asked(answers: impl IntoIterator<Item = Vec<Line>>) -> (Story, OpenAi, Value, Vec<Value>) {
    asked_of(Story::new(answers)).await
}

async fn asked_of(story: Story) -> (Story, OpenAi, Value, Vec<Value>) {
    let client = OpenAi::of(&story);
    let body = json!({"input": "Work", "conversation": "s", "tools": [steerage("always"), function("look")]});
    let response = client.begin(body).await.whole().await;
    assert_eq!((&response["status"], story.work.ran().len()), (&json!("completed"), 0));
    assert_eq!(client.retrieve(id(&response)).await, response);
    let requests = of(&response, "mcp_approval_request");
    (story, client, response, requests)
}

fn with(previous: &Value, items: Value) -> Value {
    json!({"previous_response_id": previous["id"], "input": items})
}

#[tokio::test(start_paused = true)]
async fn a_yes_runs_it_in_the_next_response() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("Done.")]).await;
    let request = &requests[0];
    assert_eq!(
        (&request["name"], &request["server_label"], &request["arguments"]),
        (&json!("work"), &json!("steerage"), &json!(r#"{"n":1}"#))
    );
    let mut stream = client.begin(with(&first, json!([answer(request, true)]))).await;
    stream.rest().await;
    let second = replay(&stream.events());
    assert_eq!((text(&second).as_str(), &second["status"]), ("Done.", &json!("completed")));
    assert_eq!((&second["previous_response_id"], &second["id"]), (&first["id"], &json!(format!("{}.2", id(&first)))));
    let call = &of(&second, "mcp_call")[0];
    assert_eq!((&call["approval_request_id"], &call["output"]), (&request["id"], &json!(r#"{"worked":{"n":1}}"#)));
    assert_eq!(story.work.ran().len(), 1);
    resumes_everywhere(&client, &format!("{RESPONSES}/{}", id(&second)), &stream.blocks, false).await;
    assert_eq!(client.retrieve(id(&first)).await, first, "the one that asked is as it was");
    // The chain goes on from both.
    let third = client.create(json!({"previous_response_id": second["id"], "input": "Thanks"})).await;
    assert_eq!(third["previous_response_id"], second["id"]);
    assert!(format!("{:?}", story.model.prompts()[2].messages).contains("worked"));
}

#[tokio::test(start_paused = true)]
async fn a_no_is_told_with_its_reason() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("A pity.")]).await;
    let mut no = answer(&requests[0], false);
    no["reason"] = json!("too dear");
    let second = client.create(with(&first, json!([no]))).await;
    assert_eq!(text(&second), "A pity.");
    let call = &of(&second, "mcp_call")[0];
    assert!(!call["error"].is_null() && call["output"].is_null(), "{call}");
    assert!(story.work.ran().is_empty());
    assert!(format!("{:?}", story.model.prompts()[1].messages).contains("too dear"));
}

#[tokio::test(start_paused = true)]
async fn the_same_answer_twice_is_one_and_another_is_refused() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("Done.")]).await;
    let yes = with(&first, json!([answer(&requests[0], true)]));
    let (one, two) = tokio::join!(client.create(yes.clone()), client.create(yes.clone()));
    assert_eq!(one, two);
    assert_eq!(client.create(yes).await, one);
    let refused = client.refused(with(&first, json!([answer(&requests[0], false)]))).await;
    assert_eq!(
        (refused.status, refused.code.as_str(), refused.param.as_deref()),
        (400, "already_resolved", Some("input"))
    );
    assert_eq!((story.work.ran().len(), story.model.prompts().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_nothing_is_refused_and_says_nothing() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("Done.")]).await;
    let real = requests[0]["id"].as_str().expect("an id");
    for wrong in
        ["mcpr_x", "", &real.replace("mcpr_s_", "mcpr_nobody_"), &real.replace("mcpr", "mcp"), &format!("{real}9")]
    {
        let items = json!([{"role": "user", "content": "and be quick"}, answer(&json!({"id": wrong}), true)]);
        let refused = client.refused(with(&first, items)).await;
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
    }
    let missing =
        client.refused(with(&first, json!([{"type": "mcp_approval_response", "approval_request_id": real}]))).await;
    assert_eq!(missing.param.as_deref(), Some("input[0].approve"));
    // A right answer beside a result of no call: nothing of it is done.
    let half = json!([answer(&requests[0], true), output(&json!({"call_id": "call_x"}), "?")]);
    assert_eq!(client.refused(with(&first, half)).await.status, 400);
    assert!(story.work.ran().is_empty(), "half of a request was done");
    assert_eq!(story.snapshot().await["queue"], json!([]), "what was refused is not said later");
    let second = client.create(with(&first, json!([answer(&requests[0], true)]))).await;
    assert_eq!(text(&second), "Done.");
    assert!(!format!("{:?}", story.model.prompts()[1].messages).contains("be quick"));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_with_an_answer_is_heard_with_it_once() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("Done.")]).await;
    let body = with(&first, json!([answer(&requests[0], true), {"role": "user", "content": "and be quick"}]));
    let second = client.create(body.clone()).await;
    assert_eq!(text(&second), "Done.");
    assert_eq!(client.create(body).await, second);
    let told = format!("{:?}", story.model.prompts()[1].messages);
    assert_eq!(told.matches("and be quick").count(), 1, "{told}");
    assert_eq!((story.model.prompts().len(), story.work.ran().len()), (2, 1));
    let others =
        client.refused(with(&first, json!([answer(&requests[0], true), {"role": "system", "content": "x"}]))).await;
    assert_eq!(others.status, 400);
}

#[tokio::test(start_paused = true)]
async fn who_answers_too_late_is_told_so() {
    let story = Story::new([calls(&[work(1)]), says("Too late.")]);
    let tool = json!({"name": "work", "executor": "builtin", "approval": "always", "approval_timeout_s": 50});
    story.begin(json!({"input": "Work", "tools": [tool]})).await;
    let client = OpenAi::of(&story);
    let started = story.wait("run.started", 1).await;
    story.wait("approval.requested", 1).await;
    let name = format!("resp_s_{}", started["id"].as_str().expect("an id").replace('.', "_"));
    let first = client.ended(&name).await;
    let request = of(&first, "mcp_approval_request")[0].clone();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let refused = client.refused(with(&first, json!([answer(&request, true)]))).await;
    assert_eq!((refused.status, refused.code.as_str()), (400, "stale"));
    let second = client.ended(&format!("{name}.2")).await;
    assert_eq!((text(&second).as_str(), of(&second, "mcp_call").len()), ("Too late.", 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_the_end_of_the_wait() {
    let (story, client, first, requests) = asked([calls(&[work(1)])]).await;
    assert_eq!(client.cancel(id(&first)).await, first, "it had ended");
    let refused = client.refused(with(&first, json!([answer(&requests[0], true)]))).await;
    assert_eq!((refused.status, refused.code.as_str()), (400, "stale"));
    assert_eq!(client.cancel(id(&first)).await, first, "again");
    let second = client.retrieve(&format!("{}.2", id(&first))).await;
    assert_eq!((&second["status"], &second["incomplete_details"]), (&json!("cancelled"), &Value::Null));
    let log = story.log().await;
    assert_eq!((events(&log, "run.cancelled").len(), story.work.ran().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_native_client_answers_and_the_next_response_is_there() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("Done.")]).await;
    let approval = story.wait("approval.requested", 1).await["approval_id"].clone();
    story.receipt(json!({"type": "approve", "approval_id": approval})).await;
    story.idle().await;
    let second = client.retrieve(&format!("{}.2", id(&first))).await;
    assert_eq!(text(&second), "Done.");
    // Whoever agrees is given the same; whoever does not is told.
    let agreed = client.create(with(&first, json!([answer(&requests[0], true)]))).await;
    assert_eq!(agreed, second);
    let refused = client.refused(with(&first, json!([answer(&requests[0], false)]))).await;
    assert_eq!(refused.code, "already_resolved");
    assert_eq!(story.work.ran().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_requests_are_answered_one_by_one() {
    for yes in [true, false] {
        let (story, client, first, requests) = asked([calls(&[work(1), work(2)]), says("Done.")]).await;
        assert_eq!(requests.len(), 2);
        let second = client.create(with(&first, json!([answer(&requests[1], yes)]))).await;
        assert_eq!((&second["status"], of(&second, "mcp_call").len()), (&json!("completed"), 1), "{second}");
        assert_eq!(of(&second, "mcp_call")[0]["approval_request_id"], requests[1]["id"]);
        let third = client.create(with(&second, json!([answer(&requests[0], true)]))).await;
        assert_eq!((text(&third).as_str(), &third["previous_response_id"]), ("Done.", &second["id"]));
        assert_eq!(of(&third, "mcp_call")[0]["approval_request_id"], requests[0]["id"]);
        assert_eq!(story.work.ran().len(), 1 + usize::from(yes));
        assert_eq!(client.retrieve(id(&second)).await, second);
    }
}

#[tokio::test(start_paused = true)]
async fn two_requests_are_answered_together() {
    for (a, b) in [(true, true), (true, false), (false, true)] {
        for taking in [0, 100] {
            let work_takes = Work::taking(Duration::from_millis(taking));
            let story = Story::configured(
                steerage::Config::in_memory(),
                work_takes,
                [calls(&[work(1), work(2)]), says("Done.")],
            );
            let (story, client, first, requests) = asked_of(story).await;
            let both = json!([answer(&requests[0], a), answer(&requests[1], b)]);
            let mut stream = client.begin(with(&first, both.clone())).await;
            stream.rest().await;
            let second = replay(&stream.events());
            assert_eq!(text(&second), "Done.", "{a} {b} {taking}");
            let answered: Vec<_> =
                of(&second, "mcp_call").iter().map(|call| call["approval_request_id"].clone()).collect();
            assert_eq!(answered.len(), 2, "{a} {b} {taking}: {second}");
            assert_eq!(client.create(with(&first, both)).await["output"], second["output"], "again");
            assert_eq!(story.work.ran().len(), usize::from(a) + usize::from(b));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_beside_a_function_call_is_answered_with_it() {
    let (story, client, first, requests) = asked([calls(&[work(1), ("look", json!({}))]), says("Done.")]).await;
    let call = of(&first, "function_call")[0].clone();
    let both = json!([answer(&requests[0], true), output(&call, "high"), {"role": "user", "content": "So?"}]);
    let second = client.create(with(&first, both)).await;
    assert_eq!((text(&second).as_str(), of(&second, "mcp_call").len()), ("Done.", 1));
    let told = format!("{:?}", story.model.prompts()[1].messages);
    assert!(told.contains("high") && told.contains("worked") && told.contains("So?"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_request_beside_a_function_call_is_answered_before_it() {
    let (story, client, first, requests) =
        asked([calls(&[work(1), ("look", json!({}))]), says("Done."), says("Done.")]).await;
    let call = of(&first, "function_call")[0].clone();
    let second = client.create(with(&first, json!([answer(&requests[0], true)]))).await;
    assert_eq!((&second["status"], of(&second, "mcp_call").len()), (&json!("completed"), 1));
    assert_eq!((story.model.prompts().len(), story.work.ran().len()), (1, 1));
    // By a session of its own, and in the conversation.
    for follow in [json!({"previous_response_id": second["id"]}), json!({"conversation": "s"})] {
        let mut body = follow;
        body["input"] = json!([output(&call, "high")]);
        assert_eq!(text(&client.create(body).await), "Done.");
        let prompts = story.model.prompts();
        let told = format!("{:?}", prompts.last().expect("a prompt").messages);
        assert!(told.contains("high") && told.contains("worked"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_are_refused_are_two_responses_and_nothing_is_lost() {
    let (story, client, first, requests) = asked([calls(&[work(1), work(2)]), says("A pity.")]).await;
    let both = json!([answer(&requests[0], false), answer(&requests[1], false)]);
    let last = client.create(with(&first, both)).await;
    assert_eq!((text(&last).as_str(), story.work.ran().len()), ("A pity.", 0));
    let items = client.input_items(id(&last)).await;
    let told = items.iter().chain(last["output"].as_array().expect("a list"));
    assert_eq!(told.filter(|item| item["type"] == "mcp_call").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_belongs_to_the_response_that_asked() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), says("Fine."), says("Done.")]).await;
    let elsewhere = client.create(json!({"previous_response_id": id(&first), "input": "Never mind"})).await;
    let yes = json!([answer(&requests[0], true)]);
    for body in [with(&elsewhere, yes.clone()), json!({"conversation": "other", "input": yes})] {
        let refused = client.refused(body).await;
        assert_eq!((refused.status, refused.param.as_deref()), (400, Some("input")), "{refused:?}");
    }
    assert!(story.work.ran().is_empty());
    assert_eq!(text(&client.create(json!({"conversation": "s", "input": yes})).await), "Done.");
}

#[tokio::test(start_paused = true)]
async fn an_older_response_does_not_stop_what_went_on_from_it() {
    let (story, client, first, requests) = asked([calls(&[work(1)]), endless("Going on")]).await;
    let mut stream = client.begin(with(&first, json!([answer(&requests[0], true)]))).await;
    stream.until("response.output_text.delta").await;
    assert_eq!(client.cancel(id(&first)).await, first);
    assert_eq!(story.model.open(), 1, "the response that waited has ended; another one runs");
    let second = client.cancel(&format!("{}.2", id(&first))).await;
    assert_eq!((&second["status"], text(&second).as_str(), story.model.open()), (&json!("cancelled"), "Going on", 0));
}
