//! The Responses dialect: what an unmodified client of OpenAI's SDKs is sent.
//!
//! `rules` is a reader as strict as the strictest of the SDKs, `turns` splits runs in another way, `golden` has every
//! situation written out, `kinds` looks at single events, `logs` folds whatever the machine and the server write, `items`
//! compares what a session was given and answered with what its model is shown.

use steerage::{
    dialect::openai_responses::{Chunks, Responses},
    event::Record,
    frame::Frame,
};

mod golden;
mod items;
mod kinds;
mod logs;
mod rules;
mod turns;

/// A fold that knows the session, whose first event is the first of these.
fn fold(frames: &[Frame]) -> Responses {
    let mut fold = Responses::new("s".parse().expect("an id"));
    assert_eq!(fold.push(&frames[0], &mut Chunks::new()).expect("our own frame"), 0);
    fold
}

/// The events of each turn of a run, as the fold gives them.
fn told(frames: &[Frame]) -> Vec<Vec<String>> {
    let (mut fold, mut turns) = (fold(frames), Vec::new());
    for frame in &frames[1..] {
        tell(&mut fold, frame, &mut turns);
    }
    turns
}

/// The same of one frame more.
fn tell(fold: &mut Responses, frame: &Frame, turns: &mut Vec<Vec<String>>) {
    let mut chunks = Chunks::new();
    let earlier = fold.push(frame, &mut chunks).expect("our own frame");
    for (at, chunk) in chunks.iter().enumerate() {
        if at >= earlier && turns.len() < fold.turn() as usize {
            turns.push(Vec::new());
        }
        turns.last_mut().expect("a turn").push(chunk.to_owned());
    }
}

fn event(frame: &Frame) -> steerage::event::Event {
    Record::decode(&frame.json()).expect("our own JSON").event
}
