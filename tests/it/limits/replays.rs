//! A client that lost its socket with a thousand messages on their way, and sends all of them again.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Story,
    script::{Work, endless},
    story::of,
};

const MESSAGES: usize = 1_000;
/// What a socket takes in a second, as the document says.
const PER_S: usize = 20;

/// Sends the messages in their order, all at once at first; what is refused again, no faster than is allowed. The
/// receipts by name.
async fn replay(story: &Story, messages: &[Value]) -> BTreeMap<String, Value> {
    let (mut sink, mut stream) = story.client.socket("/v1/sessions/s/ws?from=now").await.split();
    let mut receipts = BTreeMap::new();
    let mut unacked: Vec<&Value> = messages.iter().collect();
    let mut at_once = MESSAGES;
    for round in 0.. {
        assert!(round < 60, "{} are left", unacked.len());
        let batch: Vec<_> = unacked.iter().take(at_once).copied().collect();
        let sending = async {
            for message in &batch {
                sink.send(Message::text(message.to_string())).await.expect("it stays open");
            }
        };
        let hearing = async {
            let (mut answered, mut refused, mut wait_ms) = (0, Vec::new(), 0);
            while answered < batch.len() {
                let message = stream.next().await.expect("it stays open").expect("whole");
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                let name = message["command_id"].as_str().unwrap_or_default().to_owned();
                match message["type"].as_str() {
                    Some("receipt") => drop(receipts.insert(name, message)),
                    Some("error") => {
                        assert_eq!(message["code"], "rate_limited", "{message}");
                        wait_ms = wait_ms.max(message["retry_after_ms"].as_u64().expect("it says when"));
                        refused.push(name);
                    }
                    _ => continue,
                }
                answered += 1;
            }
            (refused, wait_ms)
        };
        let ((), (refused, wait_ms)) = tokio::join!(sending, hearing);
        if round == 0 {
            assert_eq!(refused.len(), MESSAGES - 40, "a burst is taken");
            let rest: Vec<_> = messages[40..].iter().map(|message| message["command_id"].as_str().unwrap()).collect();
            assert_eq!(refused, rest, "nothing overtakes what is refused");
        } else {
            assert_eq!(refused, [""; 0], "whoever keeps to the rate is not refused");
        }
        unacked.retain(|message| !receipts.contains_key(message["command_id"].as_str().unwrap()));
        if unacked.is_empty() {
            return receipts;
        }
        at_once = PER_S;
        tokio::time::sleep(Duration::from_millis(wait_ms.max(1_000))).await;
    }
    unreachable!("it ends or fails")
}

#[tokio::test(start_paused = true)]
async fn w18_a_thousand_unacked_messages_are_done_once_in_order_and_acked_alike() {
    let mut config = steerage::Config::in_memory();
    config.limits.pending_max = 2 * MESSAGES;
    let story = Story::configured(config, Work::default(), [endless("on and on")]);
    story.begin(json!({"input": "go"})).await;
    let message = |n| json!({"type": "send", "command_id": format!("m{n:04}"), "content": format!("{n}")});
    let messages: Vec<Value> = (0..MESSAGES).map(message).collect();
    let first = replay(&story, &messages).await;
    let seqs: Vec<u64> = first.values().map(|receipt| receipt["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs.len() == MESSAGES, "they were done in their order");
    // Every receipt was lost, so to speak.
    let second = replay(&story, &messages).await;
    for (name, receipt) in &second {
        let mut again = first[name].clone();
        again["replayed"] = json!(true);
        assert_eq!(*receipt, again);
    }
    assert_eq!(of(&story.log().await, "command.accepted").len(), MESSAGES, "each had its effect once");
    let queue = story.snapshot().await["queue"].as_array().expect("a queue").clone();
    let said: Vec<_> = queue.iter().map(|queued| queued["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(said, (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
}
