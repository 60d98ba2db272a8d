//! Single moments at which a writer dies, each with the events that follow.

use std::time::Duration;

use serde_json::json;
use steerage::{
    event::{Event, FailureCode, SessionLimit},
    provider::{Message, Prefill, Retry},
    session::{
        conversation::MessageStatus,
        state::{BYTES_MAX_LEAST, Input, Limits, OnCrash, RECOVERIES_MAX},
    },
    spec::{OnDisconnect, SessionSpec},
};

use super::life::Life;

fn begun(prefill: Prefill) -> Life {
    let mut life = Life::new(prefill);
    life.begin();
    life
}

#[test]
fn a_text_grows_on_in_its_block_and_its_message() {
    let mut life = begun(Prefill::Yes);
    life.says("It was the ");
    let from = life.log.len();
    life.crash();
    let Some(Message::Assistant { text, .. }) = life.prompt().messages.last() else { panic!("{:?}", life.prompt()) };
    assert!(life.prompt().continues && text == "It was the", "without the white space at its end");
    life.says(" third ");
    life.says("day.");
    life.ends();
    assert_eq!(
        life.outline(from),
        [
            "run.recovered 1 prefill",
            "step.ended 1.1 error",
            "step.started 1.2",
            "text.ended 1",
            "step.ended 1.2 stop",
            "run.completed stop"
        ]
    );
    assert_eq!(life.texts(), ["It was the third day."]);
    assert_eq!(life.state.fold.conversation.messages.len(), 2);
}

#[test]
fn a_refused_prefill_is_asked_for_in_words_and_counts_as_no_attempt() {
    let mut life = begun(Prefill::Unknown);
    life.says("It was the third day");
    life.crash();
    assert!(life.prompt().continues);
    let from = life.log.len();
    life.fails(FailureCode::UpstreamRejected, Retry::Never);
    assert_eq!(life.outline(from), ["run.recovered 1 continue", "step.ended 1.2 error", "step.started 1.3"]);
    let prompt = life.prompt();
    let [.., Message::Assistant { text, .. }, Message::User(note)] = prompt.messages.as_slice() else {
        panic!("{prompt:?}")
    };
    assert!(text == "It was the third day" && note.contains("It was the third day") && !prompt.continues);
    // Three attempts are left, the usual number.
    for n in 4..6 {
        let from = life.log.len();
        life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
        life.waits();
        assert_eq!(life.outline(from), [format!("step.ended 1.{} error", n - 1), format!("step.started 1.{n}")]);
        assert!(!life.prompt().continues && matches!(life.prompt().messages.last(), Some(Message::User(_))));
    }
    life.says("the third day out of Halifax.");
    life.ends();
    assert_eq!(life.texts(), ["It was the third day out of Halifax."]);
    let notes = life.state.fold.conversation.messages.len();
    assert_eq!(notes, 2, "what the model was told about the interruption is not part of the conversation");

    // Asked in words and refused again, it has failed.
    let mut life = begun(Prefill::Unknown);
    life.says("It was the third day");
    life.crash();
    life.fails(FailureCode::UpstreamRejected, Retry::Never);
    life.fails(FailureCode::UpstreamRejected, Retry::Never);
    assert_eq!(life.outline(0).last().unwrap(), "run.failed upstream_rejected partial=true");
    // After a second loss nobody asks again what was refused.
    let mut life = begun(Prefill::Unknown);
    life.says("It was the third day");
    life.crash();
    life.fails(FailureCode::UpstreamRejected, Retry::Never);
    life.crash();
    assert!(!life.prompt().continues && life.outline(0).contains(&"run.recovered 2 continue".to_owned()));
    // Another step is another question.
    life.calls(0, "theirs", "{}");
    life.ends();
    let call_id = life.state.fold.conversation.newest_calls().next().expect("a call").call_id.clone();
    life.command(json!({"type": "tool_result", "call_id": call_id, "output": 1}));
    life.says("It was the fourth day");
    life.crash();
    assert!(life.prompt().continues && life.outline(0).contains(&"run.recovered 3 prefill".to_owned()));
}

#[test]
fn what_nobody_has_read_as_text_is_done_again() {
    let mut life = begun(Prefill::Yes);
    let from = life.log.len();
    life.crash();
    assert_eq!(
        life.outline(from),
        ["run.recovered 1 restart_step", "step.ended 1.1 error", "step.started 1.2"],
        "nothing was shown"
    );
    life.thinks("Let me");
    let from = life.log.len();
    life.crash();
    assert_eq!(
        life.outline(from),
        ["run.recovered 2 restart_step", "reasoning.ended", "step.ended 1.2 error", "step.started 1.3"]
    );
    assert!(!life.prompt().continues && life.prompt().messages.len() == 1, "thoughts are not the conversation");
    life.thinks("Let me see.");
    life.calls(0, "act", "{\"n\":");
    let from = life.log.len();
    life.crash();
    assert_eq!(
        life.outline(from),
        ["run.recovered 3 restart_step", "tool.failed interrupted", "step.ended 1.3 error", "step.started 1.4"]
    );
    // Text, and half a call after it: the text stands, the call is made again.
    life.says("I look.");
    life.calls(0, "act", "{\"n\":");
    life.crash();
    assert!(life.prompt().continues);
    life.calls(0, "act", "{\"n\":1}");
    life.ends();
    assert_eq!(
        (life.tools.len(), life.texts()),
        (1, vec!["Let me".into(), "Let me see.".into(), "I look.".into()].split_off(2))
    );
}

#[test]
fn a_run_that_waits_waits_on_without_a_word() {
    let mut life = begun(Prefill::Yes);
    life.calls(0, "asks", "{}");
    life.calls(1, "theirs", "{}");
    life.ends();
    let (tail, asked_at) = (life.log.len(), life.now);
    life.now = life.now.after_seconds(50);
    for _ in 0..3 {
        life.crash();
    }
    assert_eq!(life.log.len(), tail, "nothing was lost");
    // The client's tool has a minute from the moment its new server knows of it, the person what the log says.
    assert_eq!(life.state.deadline(), Some(life.now.after_seconds(60)));
    life.waits();
    assert_eq!(life.outline(tail), ["tool.failed outcome_unknown"]);
    life.waits();
    assert_eq!(life.now, asked_at.after_seconds(600));
    assert_eq!(life.outline(tail + 1)[..2], ["approval.resolved", "tool.failed approval_timed_out"]);
    assert_eq!(life.prompt().messages.len(), 4);

    // An answer after the loss is as good as before it.
    let mut life = begun(Prefill::Yes);
    life.calls(0, "asks", "{}");
    life.ends();
    life.crash();
    let approval_id = life.state.fold.open_approvals[0].clone();
    life.command(json!({"type": "approve", "approval_id": approval_id}));
    assert_eq!(life.tools.len(), 1);
}

#[test]
fn r10_a_started_tool_runs_again_only_where_that_does_no_harm() {
    let mut life = begun(Prefill::Yes);
    for (index, name) in (0..).zip(["act", "look", "asks"]) {
        life.calls(index, name, "{\"n\":1}");
    }
    life.ends();
    let before: Vec<_> = life.tools.iter().map(|(name, call)| (name.clone(), call.call_id.clone())).collect();
    assert_eq!(before.len(), 2);
    let from = life.log.len();
    life.crash();
    assert_eq!(life.outline(from), ["run.recovered 1 restart_step", "tool.failed outcome_unknown", "tool.started 2"]);
    let [(name, call)] = life.tools.as_slice() else { panic!("{:?}", life.tools) };
    assert_eq!((name.as_str(), &call.call_id, call.attempt), ("look", &before[1].1, 2), "under the same name");
    let from = life.log.len();
    life.crash();
    assert_eq!(life.outline(from), ["run.recovered 2 restart_step", "tool.started 3"]);
    let (_, look) = life.tools.pop().expect("it runs again");
    life.step(Input::ToolDone { call_id: look.call_id, result: Ok(json!(1)) });
    let approval_id = life.state.fold.open_approvals[0].clone();
    life.command(json!({"type": "approve", "approval_id": approval_id}));
    let from = life.log.len();
    life.crash();
    assert_eq!(
        life.outline(from),
        ["run.recovered 3 restart_step", "tool.failed outcome_unknown", "step.started 2.1"],
        "all is known, so the model is asked"
    );
}

#[test]
fn the_pause_before_another_attempt_is_over_with_its_writer() {
    let mut life = begun(Prefill::Yes);
    life.fails(FailureCode::UpstreamOverloaded, Retry::After(Duration::from_secs(60)));
    life.command(json!({"type": "steer", "content": "please"}));
    let from = life.log.len();
    life.crash();
    assert_eq!(
        life.outline(from),
        ["run.recovered 1 restart_step", "input.added", "command.applied", "step.started 1.2"],
        "a steer is said before the model is asked"
    );

    // The same while an unfinished text waits: a steer ends it there, as it would have ended one that was being written.
    for steered in [false, true] {
        let mut life = begun(Prefill::Yes);
        life.says("It was the ");
        life.crash();
        life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
        life.command(json!({"type": "steer", "content": "later", "when": "next_step"}));
        if steered {
            life.command(json!({"type": "steer", "content": "shorter"}));
        }
        for dies in [true, false] {
            let from = life.log.len();
            if dies {
                life.crash();
            } else if !steered {
                life.fails(FailureCode::UpstreamOverloaded, Retry::Soon);
                life.waits();
            }
            let outline = life.outline(from);
            match (steered, dies) {
                (false, true) => assert_eq!(outline, ["run.recovered 2 prefill", "step.started 1.3"]),
                (false, false) => assert_eq!(outline, ["step.ended 1.3 error", "step.started 1.4"]),
                (true, true) => {
                    assert_eq!(outline[..2], ["run.recovered 2 prefill", "text.ended 1"]);
                    assert_eq!(outline.last().unwrap(), "step.started 2.1");
                }
                (true, false) => {}
            }
            assert_eq!(life.prompt().continues, !steered);
        }
        let unfinished = if steered { MessageStatus::Steered } else { MessageStatus::Streaming };
        assert_eq!(life.state.fold.conversation.messages[1].status, unfinished);
    }
}

#[test]
fn max_tokens_is_less_what_was_said_and_nothing_left_is_an_end() {
    let limited = |max_tokens| {
        let mut life = Life::wished(Prefill::Yes, Limits::default(), |spec| spec.params.max_tokens = Some(max_tokens));
        life.begin();
        life.says("Seven tokens make some seven-worded text");
        life
    };
    let mut life = limited(100);
    life.crash();
    assert_eq!(life.prompt().params.max_tokens, Some(93), "a token a word, and two for a long one");
    let mut life = limited(7);
    let from = life.log.len();
    life.crash();
    assert_eq!(
        life.outline(from),
        ["run.recovered 1 prefill", "text.ended 1", "step.ended 1.1 length", "run.completed length"]
    );
    assert!(life.asked.is_none());
}

#[test]
fn readers_are_gone_with_the_writer_and_may_come_back() {
    for comes_back in [false, true] {
        let watched = |spec: &mut SessionSpec| spec.on_disconnect = Some(OnDisconnect { cancel_after_s: 30 });
        let mut life = Life::wished(Prefill::Yes, Limits::default(), watched);
        life.begin();
        life.step(Input::Readers(1));
        life.says("It was ");
        life.now = life.now.after_seconds(1);
        life.crash();
        assert_eq!(life.state.deadline(), Some(life.now.after_seconds(30)));
        if comes_back {
            life.step(Input::Readers(1));
        }
        life.now = life.now.after_seconds(30);
        life.step(Input::Tick);
        assert_eq!(life.runs(), comes_back);
    }
}

#[test]
fn a_run_that_ends_its_process_every_time_does_not_do_so_for_ever() {
    let mut life = begun(Prefill::Yes);
    life.says("It was the ");
    for n in 1..=RECOVERIES_MAX {
        life.crash();
        assert!(life.outline(0).contains(&format!("run.recovered {n} prefill")));
        // Not even what it says in between gives it more lives.
        life.says("next ");
    }
    let from = life.log.len();
    life.crash();
    assert_eq!(life.outline(from), ["text.ended 1", "step.ended 1.6 error", "run.failed owner_lost partial=true"]);
    life.begin();
    life.crash();
    assert!(life.outline(from).contains(&"run.recovered 1 restart_step".to_owned()), "another run has its own number");
}

#[test]
fn a_limit_is_told_of_once_and_across_writers() {
    let events = Limits { events_max: 1_100, ..Limits::default() };
    let bytes = Limits { bytes_max: BYTES_MAX_LEAST / 2 + 400_000, ..Limits::default() };
    for (limits, limit, name) in [(events, SessionLimit::Events, "events"), (bytes, SessionLimit::Bytes, "bytes")] {
        let mut life = Life::limited(Prefill::Yes, limits);
        life.begin();
        while life.count("session.near_limit") == 0 {
            life.says("x ");
            life.thinks("y ");
        }
        assert!((80..=92).contains(&life.log.len()), "at four fifths of a hundred events: {}", life.log.len());
        let told = life.log.iter().find_map(|stamped| match stamped.event {
            Event::SessionNearLimit { limit, used, max } => Some((limit, used, max)),
            _ => None,
        });
        let (of, used, max) = told.expect("it was told");
        assert!(of == limit && used < max, "{used} of {max}");
        life.crash();
        while life.runs() {
            life.says("x ");
        }
        assert_eq!(life.count("session.near_limit"), 1, "once");
        let Some(last) = &life.state.fold.last_run else { panic!("it has ended") };
        let message = last.message.as_deref().unwrap_or_default();
        assert!(last.code == Some(FailureCode::Limit) && message.contains(name), "{message}");
        // What came before the warning is in the log that the next writer reads: it stays full.
        let tail = life.log.len();
        life.crash();
        life.begin();
        assert_eq!(life.log.len(), tail, "a full session takes nothing new, after a restart neither");
    }
}

/// With a function of the client's whose calls end the run.
fn functions(limits: Limits) -> Life {
    let mut life = Life::wished(Prefill::Yes, limits, |spec: &mut SessionSpec| {
        let look = json!({"name": "look_there", "ends_run": true, "timeout_s": 5});
        spec.tools.push(serde_json::from_value(look).expect("a declaration"));
    });
    life.begin();
    life
}

#[test]
fn a_lost_tool_leaves_a_run_that_its_calls_end() {
    let mut life = functions(Limits::default());
    life.calls(0, "act", "{}");
    life.calls(1, "look_there", "{}");
    life.ends();
    let from = life.log.len();
    life.crash();
    let due = ["run.recovered 1 restart_step", "tool.failed outcome_unknown", "run.completed tool_calls"];
    assert_eq!(life.outline(from), due);
    assert!(life.state.fold.hands_over() && !life.runs());
}

#[test]
fn what_its_calls_ended_is_not_recovered_and_never_too_late() {
    let mut life = functions(Limits { on_crash: OnCrash::Fail, ..Limits::default() });
    life.calls(0, "look_there", "{}");
    life.ends();
    life.command(json!({"type": "steer", "command_id": "s", "content": "and then?"}));
    let from = life.log.len();
    for _ in 0..2 * RECOVERIES_MAX {
        life.crash();
    }
    assert_eq!(life.outline(from), [] as [&str; 0]);
    let expires = life.log.last().expect("events").at.after_seconds(86_400);
    assert_eq!(life.state.deadline(), Some(expires), "nothing but the end of the session is waited for");
    let call_id = life.state.fold.conversation.newest_calls().next().expect("a call").call_id.clone();
    life.command(json!({"type": "tool_result", "call_id": call_id, "output": 1}));
    assert!(
        matches!(&life.prompt().messages[..], [.., Message::Tool { .. }, Message::User(text)] if text == "and then?")
    );
}

#[test]
fn a_call_that_ends_the_run_waits_beside_one_that_does_not_and_only_that_one_is_late() {
    let mut life = functions(Limits::default());
    life.calls(0, "look_there", "{}");
    life.calls(1, "theirs", "{}");
    life.ends();
    life.crash();
    let from = life.log.len();
    life.waits();
    assert_eq!(life.outline(from), ["tool.failed outcome_unknown", "run.completed tool_calls"]);
    assert_eq!(life.now, life.log[from].at);
    assert!(life.state.fold.conversation.newest_calls().next().expect("a call").outcome.is_none());
}
