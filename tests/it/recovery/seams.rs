//! Text that is held back because it may repeat what was shown: what the model says instead of its end decides that it was
//! new; a cut leaves it unsaid.

use serde_json::json;
use steerage::{
    event::{Event, FailureCode},
    provider::{Prefill, Retry},
    session::state::Input,
};

use super::life::Life;

/// A run whose model has begun to repeat the last words that it said, and may yet go another way.
fn holding() -> Life {
    let mut life = Life::new(Prefill::No);
    life.begin();
    life.says("It was the third day of the voyage");
    life.crash();
    life.says("the third day of ");
    assert_eq!(life.texts(), ["It was the third day of the voyage"], "held back");
    life
}

#[test]
fn a_repetition_is_not_shown_and_what_follows_it_is() {
    let mut life = holding();
    life.says("the voyage");
    life.says(" to Halifax");
    life.ends();
    assert_eq!(life.texts(), ["It was the third day of the voyage to Halifax"]);
    // The other servers, which give everything back.
    let mut life = Life::new(Prefill::Unknown);
    life.begin();
    life.says("It was the third day");
    life.crash();
    for piece in ["It was ", "the third ", "day out."] {
        life.says(piece);
    }
    life.ends();
    assert_eq!(life.texts(), ["It was the third day out."]);
}

#[test]
fn what_was_held_back_is_shown_before_whatever_the_model_says_else() {
    const ALL: &str = "It was the third day of the voyagethe third day of ";
    type Ending = fn(&mut Life);
    let endings: [(&str, Ending); 4] = [
        ("another way", |life| life.says("May")),
        ("the end", Life::ends),
        ("thoughts", |life| life.thinks("Hm.")),
        ("a call", |life| life.calls(0, "act", "{}")),
    ];
    for (ending, end) in endings {
        let mut life = holding();
        let from = life.log.len();
        end(&mut life);
        let first = &life.log[from].event;
        assert!(
            matches!(first, Event::TextDelta { text, .. } if text.starts_with("the third day of ")),
            "{ending}: {first:?}"
        );
        assert!(life.texts()[0].starts_with(ALL), "{ending}: {:?}", life.texts());
    }
}

#[test]
fn an_answer_that_is_cut_says_nothing_twice() {
    type Cut = fn(&mut Life);
    let cuts: [(&str, Cut); 4] = [
        ("a steer", |life| life.command(json!({"type": "steer", "content": "shorter"}))),
        ("a cancel", |life| life.command(json!({"type": "cancel"}))),
        ("a failure", |life| life.fails(FailureCode::UpstreamDisconnected, Retry::Soon)),
        ("a stop of the server", |life| life.step(Input::Shutdown)),
    ];
    for (name, cut) in cuts {
        let mut life = holding();
        cut(&mut life);
        assert_eq!(life.texts()[0], "It was the third day of the voyage", "{name}");
    }
}

#[test]
fn a_writer_that_dies_with_held_text_has_shown_none_of_it() {
    let mut life = holding();
    life.crash();
    life.says("the third day of the voyage to Halifax");
    life.ends();
    assert_eq!(life.texts(), ["It was the third day of the voyage to Halifax"]);
}

#[test]
fn thoughts_before_the_text_do_not_hide_that_it_repeats() {
    let mut life = Life::new(Prefill::No);
    life.begin();
    life.says("It was the third day of the voyage");
    life.crash();
    life.thinks("They want me to go on.");
    life.says("the third day of the voyage to Halifax");
    life.ends();
    assert_eq!(life.texts(), ["It was the third day of the voyage", " to Halifax"]);
}
