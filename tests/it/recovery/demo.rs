//! The whole server: its sessions lose their tasks in mid-answer, and whoever reads sees one answer.

use serde_json::{Value, json};
use steerage::{Config, provider::demo::Demo, session::state::OnCrash};

use crate::support::{TestServer, mortal::Mortal};

/// The log of a session that lost its task so often, each time after so many deltas.
async fn log(config: Config, body: Value, lives: usize, after: usize) -> Vec<Value> {
    let server = TestServer::configured(config, |server| server.provider("mortal", Mortal::new(Demo, lives, after)));
    let client = server.client();
    let session = client.create(body).await;
    let (mut seen, mut last) = (Vec::new(), String::new());
    for _ in 0..10 {
        // Whoever comes first finds no task, and the session is opened from its store.
        let headers: Vec<(&str, &str)> = if last.is_empty() { Vec::new() } else { vec![("last-event-id", &last)] };
        let path = format!("/v1/sessions/{session}/events?until=idle");
        for event in client.stream(&path, &headers).await.rest().await {
            if let Some(id) = event.id {
                seen.push(event.data);
                last = id;
            }
        }
        if seen.last().is_some_and(|event| event["type"].as_str().unwrap_or_default().starts_with("run.")) {
            break;
        }
    }
    assert_eq!(seen, client.log(&session).await, "what a reader sees over every loss is the log");
    seen
}

fn texts(log: &[Value], kind: &str) -> String {
    log.iter().filter(|event| event["type"] == kind).filter_map(|event| event["text"].as_str()).collect()
}

fn types<'a>(log: &'a [Value], kind: &'a str) -> Vec<&'a Value> {
    log.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_session_that_loses_its_task_sees_one_answer() {
    let echo = " \n one  two\r\n\nnaïve — 美咲 🚢👩‍👩‍👧 e\u{301} ha ha ha ha ha ha ha ha   the end \n";
    for (model, input) in [("story", "Go"), ("assistant", "Go"), ("reasoning", "why"), ("echo", echo)] {
        let body = json!({"model": format!("mortal/{model}"), "input": input, "params": {"tokens_per_second": 50}});
        let whole = log(Config::in_memory(), body.clone(), 0, 0).await;
        let text = texts(&whole, "text.delta");
        for after in [1, 3, 7, 12, 60] {
            let lost = log(Config::in_memory(), body.clone(), 3, after).await;
            assert_eq!(texts(&lost, "text.delta"), text, "{model} after {after}");
            let recovered = types(&lost, "run.recovered").len();
            assert!(recovered == 3 || (recovered < 3 && after > 3), "{model} after {after}: {recovered}");
            assert_eq!((types(&lost, "run.completed").len(), types(&lost, "text.started").len()), (1, 1), "{model}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_server_is_set_to_fail_the_run_ends_with_its_task() {
    let config = Config { on_crash: OnCrash::Fail, ..Config::in_memory() };
    let lost = log(config, json!({"model": "mortal/story", "input": "Go"}), 1, 5).await;
    let failed = lost.last().unwrap();
    assert_eq!((&failed["code"], &failed["partial"]), (&json!("owner_lost"), &json!(true)));
    assert!(types(&lost, "run.recovered").is_empty());
}
