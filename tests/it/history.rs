//! Clients that go back, and clients that believe something else: what leaves the model's context, what is added, what is
//! merely told.

use serde_json::{Value, json};
use steerage::{Config, provider::Message};
use tokio::time::{Duration, sleep};

use crate::support::{
    Folder, Story, TestServer,
    script::{Scripted, calls, endless, says},
    story::of,
};

/// What the model was told in its `n`th call, from 0.
fn told(model: &Scripted, n: usize) -> Vec<String> {
    let say = |message: &Message| match message {
        Message::System(text) => format!("system: {text}"),
        Message::User(text) => format!("user: {text}"),
        Message::Assistant { text, .. } => format!("assistant: {text}"),
        Message::Tool { name, .. } => format!("tool: {name}"),
    };
    model.prompts()[n].messages.iter().map(say).collect()
}

fn send(id: &str, content: &str) -> Value {
    json!({"type": "send", "content": content, "message_id": id, "if_running": "cancel"})
}

/// Says an earlier input anew.
fn anew(id: &str, content: &str) -> Value {
    json!({"type": "send", "content": content, "replaces": id, "if_running": "cancel"})
}

fn with(mut send: Value, history: &[(&str, &str, &str)]) -> Value {
    let said = |(id, role, content): &(&str, &str, &str)| json!({"message_id": id, "role": role, "content": content});
    send["history"] = history.iter().map(said).collect();
    send
}

/// Gives a command and waits for the end of the run that it begins; the log.
async fn done(story: &Story, command: Value) -> Vec<Value> {
    story.receipt(command).await;
    story.idle().await
}

/// A conversation of two inputs, `m1` and `m2`, and their answers. Three more answers are ready.
async fn talked() -> (Story, Names) {
    let answers = ["first", "second", "third", "fourth", "fifth"];
    let story = Story::new(answers.map(says));
    story.begin(json!({})).await;
    done(&story, send("m1", "one")).await;
    let log = done(&story, send("m2", "two")).await;
    let name = |kind: &str, field: &str, n: usize| of(&log, kind)[n][field].as_str().unwrap().to_owned();
    let [a1, a2] = [0, 1].map(|n| name("text.started", "message_id", n));
    let [run1, run2] = [0, 1].map(|n| name("run.started", "run_id", n));
    (story, Names { a1, a2, run1, run2 })
}

/// The names of the answers, and of their runs.
struct Names {
    a1: String,
    a2: String,
    run1: String,
    run2: String,
}

/// Name and whether it has left the context, of every message of the snapshot.
async fn messages(story: &Story) -> Vec<(String, bool)> {
    let snapshot = story.snapshot().await;
    let messages = snapshot["messages"].as_array().unwrap().iter();
    messages.map(|m| (m["message_id"].as_str().unwrap().to_owned(), m["rolled_back"] == true)).collect()
}

fn rewound(log: &[Value]) -> Vec<Value> {
    of(log, "history.rewound").into_iter().map(|event| event["message_ids"].clone()).collect()
}

/// `ignored` and `absent` of what was told.
fn diverged(log: &[Value]) -> Vec<(Value, Value)> {
    of(log, "history.diverged").into_iter().map(|e| (e["ignored"].clone(), e["absent"].clone())).collect()
}

const ALL: [&str; 4] = ["user: one", "assistant: first", "user: two", "assistant: second"];

fn all_and(more: &[&str]) -> Vec<String> {
    ALL.iter().chain(more).map(|text| (*text).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_newest_input_is_answered_again() {
    let (story, names) = talked().await;
    let regenerate = json!({"type": "regenerate", "command_id": "r1"});
    let receipt = story.receipt(regenerate.clone()).await;
    assert_eq!((&receipt["status"], &receipt["kind"]), (&json!("applied"), &json!("regenerate")));
    let log = story.idle().await;
    assert_eq!(told(&story.model, 2), ALL[..3], "it knows nothing of the answer before");
    assert_eq!(rewound(&log), [json!([names.a2])]);
    assert_eq!(of(&log, "history.rewound")[0]["command_id"], "r1");
    assert_eq!(of(&log, "run.started")[2]["trigger"], "regenerate");
    assert_eq!(of(&log, "input.added").len(), 2, "nothing is said again");
    let flags: Vec<_> = messages(&story).await.into_iter().map(|(_, gone)| gone).collect();
    assert_eq!(flags, [false, false, false, true, false]);
    // The same command again is the same answer, and its receipt the same receipt.
    let again = story.receipt(regenerate).await;
    assert_eq!((&again["seq"], &again["replayed"]), (&receipt["seq"], &json!(true)));
    assert_eq!((story.idle().await.len(), story.model.prompts().len()), (log.len(), 3));
    // Without a name it is another wish.
    done(&story, json!({"type": "regenerate"})).await;
    assert_eq!(told(&story.model, 3), ALL[..3]);
}

#[tokio::test(start_paused = true)]
async fn a_named_answer_or_input_is_answered_again_and_what_follows_it_leaves() {
    for pick in [|n: &Names| n.a1.clone(), |n: &Names| n.run1.clone(), |_: &Names| "m1".to_owned()] {
        let (story, names) = talked().await;
        let name = pick(&names);
        let log = done(&story, json!({"type": "regenerate", "message_id": name})).await;
        assert_eq!(told(&story.model, 2), ALL[..1], "{name}");
        assert_eq!(rewound(&log), [json!([names.a1, "m2", names.a2])], "{name}");
        done(&story, send("m3", "three")).await;
        assert_eq!(told(&story.model, 3), ["user: one", "assistant: third", "user: three"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_given_again_takes_the_place_of_what_runs() {
    let story = Story::new([calls(&[("work", json!({"n": 1}))]), endless("So far"), says("whole")]);
    story.begin(json!({"tools": [{"name": "work", "executor": "builtin"}]})).await;
    story.receipt(send("m1", "go")).await;
    let request = story.wait("approval.requested", 1).await;
    story.receipt(json!({"type": "regenerate", "command_id": "r1"})).await;
    story.wait("text.delta", 1).await;
    let log = story.log().await;
    assert_eq!(of(&log, "run.cancelled")[0]["command_id"], "r1");
    assert_eq!(of(&log, "approval.resolved")[0]["outcome"], "superseded");
    assert_eq!(of(&log, "tool.failed")[0]["code"], "interrupted");
    let yes = json!({"type": "approve", "approval_id": request["approval_id"]});
    assert_eq!(story.refusal(yes).await, (409, "stale".into()));
    assert_eq!(told(&story.model, 1), ["user: go"], "the call has left the context with its answer");
    // In mid-answer.
    story.receipt(json!({"type": "regenerate", "command_id": "r2"})).await;
    let log = story.idle().await;
    assert_eq!(of(&log, "run.cancelled")[1]["command_id"], "r2");
    assert_eq!((told(&story.model, 2), story.model.open()), (vec!["user: go".into()], 0));
    assert_eq!((rewound(&log).len(), of(&log, "run.completed").len()), (2, 1));
    assert!(of(&log, "tool.started").is_empty() && story.work.ran().is_empty(), "nobody said yes");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_changes_nothing() {
    let unknown = (404, "unknown_message".to_owned());
    let story = Story::new([endless("So far")]);
    story.begin(json!({})).await;
    assert_eq!(story.refusal(json!({"type": "regenerate"})).await, unknown);
    assert_eq!(story.refusal(with(json!({"type": "regenerate"}), &[])).await, unknown);
    assert_eq!(messages(&story).await, []);
    story.receipt(send("m1", "one")).await;
    story.wait("text.delta", 1).await;
    let before = messages(&story).await;
    let named = |id: &str| json!({"type": "regenerate", "message_id": id});
    assert_eq!(story.refusal(named("m9")).await, unknown);
    // A history that ends with an answer of the client's own: nothing is asked there.
    let own = [("m1", "user", "one"), ("a9", "assistant", "mine")];
    assert_eq!(story.refusal(with(json!({"type": "regenerate"}), &own)).await, unknown);
    assert_eq!((story.snapshot().await["state"].clone(), messages(&story).await), (json!("running"), before));
    // What has left the context is not there to be answered.
    let (story, names) = talked().await;
    done(&story, json!({"type": "regenerate", "message_id": "m1"})).await;
    for gone in [names.a1.as_str(), "m2", &names.a2, &names.run2] {
        assert_eq!(story.refusal(named(gone)).await, unknown, "{gone}");
    }
    assert_eq!(rewound(&story.log().await).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_brought_along_can_be_given_again() {
    let story = Story::new(["second", "first"].map(says));
    story.begin(json!({})).await;
    let history = [("m1", "user", "one"), ("a1", "assistant", "eins")];
    done(&story, with(send("m2", "two"), &history)).await;
    done(&story, json!({"type": "regenerate", "message_id": "a1"})).await;
    assert_eq!(told(&story.model, 1), ["user: one"]);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_input_is_said_anew_in_its_place() {
    let (story, names) = talked().await;
    let log = done(&story, anew("m1", "uno")).await;
    assert_eq!(told(&story.model, 2), ["user: uno"]);
    assert_eq!(rewound(&log), [json!(["m1", names.a1, "m2", names.a2])]);
    let messages = messages(&story).await;
    let inputs: Vec<_> = messages.iter().filter(|(id, _)| id == "m1").map(|(_, gone)| *gone).collect();
    assert_eq!((inputs, messages.len()), (vec![true, false], 6), "it keeps its name: {messages:?}");
    // And once more; the name speaks of the one that is in the context.
    let log = done(&story, anew("m1", "un")).await;
    assert_eq!(told(&story.model, 3), ["user: un"]);
    assert_eq!(rewound(&log)[1].as_array().unwrap().len(), 2);
    let named = json!({"type": "send", "content": "ein", "message_id": "m9", "replaces": "m1", "if_running": "cancel"});
    let log = done(&story, named).await;
    assert_eq!(of(&log, "input.added").last().unwrap()["message_id"], "m9", "it may have a name of its own");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_said_is_not_said_again_by_its_name_alone() {
    let (story, names) = talked().await;
    let before = story.log().await.len();
    // A request that was given up and comes late undoes nothing: not the newest, not an earlier, not an answer's name.
    for name in ["m2", "m1", &names.a1, &names.a2] {
        assert_eq!(story.refusal(send(name, "again")).await, (409, "already_said".into()), "{name}");
    }
    for name in ["nobody", &names.a1] {
        assert_eq!(story.refusal(anew(name, "again")).await, (404, "unknown_message".into()), "{name}");
    }
    let log = story.log().await;
    assert!(log[before..].iter().all(|event| event["type"] == "command.rejected"), "{:?}", &log[before..]);
    // Nor does what has left the context come back by its name.
    done(&story, anew("m1", "uno")).await;
    assert_eq!(story.refusal(send("m2", "two")).await, (409, "already_said".into()));
    // With its own name it is said anew if it was said at all.
    let own = |id: &str, content: &str| json!({"type": "send", "content": content, "message_id": id, "replaces": id, "if_running": "reject"});
    done(&story, own("m1", "un")).await;
    assert_eq!(told(&story.model, 3), ["user: un"]);
    let log = done(&story, own("m7", "new")).await;
    assert_eq!(told(&story.model, 4).last().unwrap(), "user: new");
    assert_eq!(rewound(&log).len(), 2, "nothing leaves for what is new");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_anew_takes_the_place_of_what_runs_unless_it_is_to_be_rejected() {
    let story = Story::new([endless("So far"), says("whole")]);
    story.begin(json!({})).await;
    story.receipt(send("m1", "one")).await;
    story.wait("text.delta", 1).await;
    let mut reject = anew("m1", "uno");
    reject["if_running"] = json!("reject");
    assert_eq!(story.refusal(reject.clone()).await, (409, "run_active".into()));
    assert_eq!(messages(&story).await.iter().filter(|(_, gone)| *gone).count(), 0);
    let log = done(&story, anew("m1", "uno")).await;
    assert_eq!(told(&story.model, 1), ["user: uno"]);
    assert_eq!((of(&log, "run.cancelled").len(), rewound(&log).len()), (1, 1));
    reject["content"] = json!("un");
    done(&story, reject).await;
    assert_eq!(told(&story.model, 2), ["user: un"], "nothing runs: it is said");
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_the_same_says_nothing() {
    let (story, names) = talked().await;
    for (n, [first, second]) in [
        [(names.a1.as_str(), "first"), (names.a2.as_str(), "second")],
        // A run's name is that of its whole answer.
        [(names.run1.as_str(), "first"), (names.run2.as_str(), "second")],
        // A client that was away at the end knows the beginning.
        [(names.run1.as_str(), "fi"), (names.run2.as_str(), "")],
    ]
    .into_iter()
    .enumerate()
    {
        let history = [
            ("m1", "user", "one"),
            (first.0, "assistant", first.1),
            ("m2", "user", "two"),
            (second.0, "assistant", second.1),
        ];
        let mut command = with(send("m3", "three"), &history);
        if n > 0 {
            // As a page does whose last message was said anew.
            (command["content"], command["replaces"]) = (json!("three!"), json!("m3"));
        }
        let log = done(&story, command).await;
        assert_eq!(told(&story.model, 2 + n)[..4], ALL);
        assert_eq!(told(&story.model, 2 + n).len(), 5);
        assert_eq!(diverged(&log), [], "{n}");
        assert_eq!(rewound(&log).len(), n, "only what is said anew leaves");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_back_takes_what_follows_out() {
    let (story, names) = talked().await;
    let history = [("m1", "user", "one"), (names.a1.as_str(), "assistant", "first")];
    let log = done(&story, with(send("m3", "three"), &history)).await;
    assert_eq!(told(&story.model, 2), ["user: one", "assistant: first", "user: three"]);
    assert_eq!((rewound(&log), diverged(&log)), (vec![json!(["m2", names.a2])], vec![]));
    let flags: Vec<_> = messages(&story).await.into_iter().map(|(_, gone)| gone).collect();
    assert_eq!(flags, [false, false, true, true, false, false], "they are still there to be read");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_less_takes_nothing_away() {
    // A fresh page.
    let (story, _) = talked().await;
    let log = done(&story, with(send("m3", "three"), &[])).await;
    assert_eq!(told(&story.model, 2), all_and(&["user: three"]));
    assert_eq!((rewound(&log), diverged(&log)), (vec![], vec![(json!([]), json!(4))]));
    // A window of the last message.
    let (story, names) = talked().await;
    let log = done(&story, with(send("m3", "three"), &[(&names.run2, "assistant", "second")])).await;
    assert_eq!(told(&story.model, 2), all_and(&["user: three"]));
    assert_eq!((rewound(&log), diverged(&log)), (vec![], vec![(json!([]), json!(3))]));
    // A gap.
    let (story, names) = talked().await;
    let history = [("m1", "user", "one"), (names.a2.as_str(), "assistant", "second")];
    let log = done(&story, with(send("m3", "three"), &history)).await;
    assert_eq!(told(&story.model, 2), all_and(&["user: three"]));
    assert_eq!((rewound(&log), diverged(&log)), (vec![], vec![(json!([]), json!(2))]));
}

#[tokio::test(start_paused = true)]
async fn what_the_client_has_beyond_the_log_is_added() {
    let (story, names) = talked().await;
    let history = [
        ("m1", "user", "one"),
        (names.a1.as_str(), "assistant", "first"),
        ("m2", "user", "two"),
        (names.a2.as_str(), "assistant", "second"),
        ("s1", "system", "be brief"),
        ("blank", "user", " "),
        ("x1", "user", "elsewhere"),
        ("x2", "assistant", "answered"),
    ];
    let mut command = with(send("m3", "three"), &history);
    command["command_id"] = json!("c1");
    let log = done(&story, command).await;
    let expected = ["system: be brief", "user: elsewhere", "assistant: answered", "user: three"];
    assert_eq!(told(&story.model, 2), all_and(&expected));
    let added: Vec<_> =
        of(&log, "input.added")[2..].iter().map(|e| json!([e["message_id"], e["role"], e["command_id"]])).collect();
    let expected = [("s1", "system"), ("x1", "user"), ("x2", "assistant"), ("m3", "user")];
    assert_eq!(added, expected.map(|(id, role)| json!([id, role, "c1"])));
    assert_eq!(diverged(&log), [(json!(["blank"]), json!(0))], "what says nothing is not added");
    // Now they are here, and known.
    let x2 = [("x2", "assistant", "answered")];
    let log = done(&story, with(send("m4", "four"), &x2)).await;
    assert_eq!(rewound(&log).last().unwrap().as_array().unwrap().len(), 2, "m3 and its answer");
    assert_eq!(told(&story.model, 3).last_chunk::<2>().unwrap(), &["assistant: answered", "user: four"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_believes_otherwise_is_told_and_ignored() {
    let (story, names) = talked().await;
    let history = [
        ("m1", "user", "eleven"),
        (names.run1.as_str(), "assistant", "I said yes"),
        ("x1", "user", "unknown here"),
        ("m2", "assistant", "two"),
        (names.run2.as_str(), "assistant", "second, and more"),
    ];
    let log = done(&story, with(send("m3", "three"), &history)).await;
    assert_eq!(told(&story.model, 2), all_and(&["user: three"]), "ours is what the model sees");
    let ignored = json!(["m1", names.run1, "x1", "m2", names.run2]);
    assert_eq!((rewound(&log), diverged(&log)), (vec![], vec![(ignored, json!(0))]));
    assert_eq!(of(&log, "input.added").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_regenerate_says_with_a_history_what_is_asked() {
    // Up to an earlier input.
    let (story, names) = talked().await;
    let regenerate = |history: &[(&str, &str, &str)]| with(json!({"type": "regenerate"}), history);
    let log = done(&story, regenerate(&[("m1", "user", "one")])).await;
    assert_eq!((told(&story.model, 2), diverged(&log)), (vec!["user: one".into()], vec![]));
    assert_eq!(rewound(&log), [json!([names.a1, "m2", names.a2])]);
    // One that the client has changed is asked as it is now.
    let (story, names) = talked().await;
    let history = [("m1", "user", "one"), (names.run1.as_str(), "assistant", "first"), ("m2", "user", "deux")];
    let log = done(&story, regenerate(&history)).await;
    assert_eq!(told(&story.model, 2), ["user: one", "assistant: first", "user: deux"]);
    assert_eq!((rewound(&log), diverged(&log)), (vec![json!(["m2", names.a2])], vec![]));
    assert_eq!(of(&log, "input.added").last().unwrap()["message_id"], "m2");
    // One that is not here yet.
    let (story, _) = talked().await;
    let history = [("m2", "user", "two"), ("x1", "user", "and?")];
    done(&story, regenerate(&history)).await;
    assert_eq!(told(&story.model, 2), ["user: one", "assistant: first", "user: two", "user: and?"]);
    // None at all: the newest.
    let (story, _) = talked().await;
    let log = done(&story, regenerate(&[])).await;
    assert_eq!(
        (told(&story.model, 2), diverged(&log)),
        (ALL[..3].iter().map(|s| s.to_string()).collect(), vec![(json!([]), json!(3))])
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_has_no_place_yet() {
    let (story, _) = talked().await;
    let before = story.log().await;
    let refused = (400, "invalid_command".to_owned());
    for if_running in [json!("queue"), json!("steer"), Value::Null] {
        for mut command in [send("m1", "uno"), with(json!({"type": "send", "content": "uno"}), &[])] {
            match if_running.is_null() {
                true => drop(command.as_object_mut().unwrap().remove("if_running")),
                false => command["if_running"] = if_running.clone(),
            }
            assert_eq!(story.refusal(command.clone()).await, refused, "{command}");
        }
    }
    assert_eq!(story.log().await, before, "they were no commands, and nothing is recorded");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_after_it_brings_nothing_back() {
    let story = Story::new([says("first"), endless("second"), says("third")]);
    story.begin(json!({})).await;
    done(&story, send("m1", "one")).await;
    story.receipt(json!({"type": "regenerate"})).await;
    story.wait("text.delta", 2).await;
    story.receipt(json!({"type": "cancel", "mode": "rollback"})).await;
    let flags: Vec<_> = messages(&story).await.into_iter().map(|(_, gone)| gone).collect();
    assert_eq!(flags, [false, true, true], "the input was there before the run, and stays");
    done(&story, json!({"type": "regenerate"})).await;
    assert_eq!(told(&story.model, 2), ["user: one"], "and can be answered once more");
}

#[tokio::test]
async fn what_has_left_the_context_stays_out_of_it_after_a_restart() {
    let folder = Folder::new();
    let model = Scripted::new(["first", "second", "third", "fourth"].map(says));
    let mut server = serve(&folder, &model).await;
    server.client().create(json!({"id": "s", "model": "script/m"})).await;
    let commands = [
        send("m1", "one"),
        send("m2", "two"),
        json!({"type": "regenerate", "command_id": "r"}),
        anew("m2", "deux"),
        send("m3", "three"),
    ];
    for (n, command) in commands.into_iter().enumerate() {
        let answer = server.client().control("s", command.clone()).await;
        assert_eq!(answer.status, 200, "{command}");
        server.client().stream("/v1/sessions/s/events?until=idle", &[]).await.rest().await;
        let before = server.client().snapshot("s").await["messages"].clone();
        server.stop().await;
        server = serve(&folder, &model).await;
        assert_eq!(server.client().snapshot("s").await["messages"], before, "after {command}");
        assert_eq!(model.prompts().len(), n + 1);
    }
    let ours = ["user: one", "assistant: first", "user: deux", "assistant: fourth", "user: three"];
    assert_eq!(told(&model, 4), ours);
    let again = server.client().control("s", json!({"type": "regenerate", "command_id": "r"})).await.json();
    assert_eq!((&again["status"], &again["replayed"]), (&json!("applied"), &json!(true)));
    assert_eq!(model.prompts().len(), 5);
}

/// A server on the folder, once the one before has let go of it.
async fn serve(folder: &Folder, model: &Scripted) -> TestServer {
    for _ in 0..500 {
        let store = format!("disk:{}", folder.path().display());
        let config = Config { store, drain_grace_s: 0, ..Config::default() };
        let server = TestServer::configured(config, |server| server.provider("script", model.clone()));
        sleep(Duration::from_millis(20)).await;
        if !server.has_ended() {
            return server;
        }
    }
    panic!("the store is not free");
}
