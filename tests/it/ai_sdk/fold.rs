//! The fold from a run's frames to the chunks of one message.
//!
//! `rules` is a client as strict as the strictest of the SDK, `golden` has every situation written out, `kinds` looks at
//! single chunks, `logs` folds whatever the machine and the server write.

use steerage::{
    dialect::ai_sdk::{Chunks, Options, Turn, Version},
    event::Record,
    frame::{Encoder, Frame},
    session::state::Stamped,
};

pub(crate) mod golden;
mod kinds;
pub(crate) mod logs;
pub(crate) mod rules;

/// A reader of every kind.
const READERS: [Options; 4] = [
    Options { version: Version::V5, steering_message: false },
    Options { version: Version::V6, steering_message: false },
    Options { version: Version::V7, steering_message: false },
    Options { version: Version::V7, steering_message: true },
];

/// The log as its readers get it.
pub(crate) fn frames(log: &[Stamped]) -> Vec<Frame> {
    let mut encoder = Encoder::default();
    log.iter().map(|stamped| encoder.encode(stamped.id, stamped.at, &stamped.event)).collect()
}

/// The log of each run, with the first event of the session before it.
pub(crate) fn runs(frames: &[Frame]) -> Vec<Vec<Frame>> {
    let mut runs: Vec<Vec<Frame>> = Vec::new();
    for frame in frames {
        if frame.kind() == "run.started" {
            runs.push(vec![frames[0].clone()]);
        }
        if let Some(run) = runs.last_mut() {
            run.push(frame.clone());
        }
    }
    runs
}

/// All chunks of a run.
fn fold(frames: &[Frame], options: Options) -> Vec<String> {
    let (mut turn, mut chunks) = (Turn::new(options), Chunks::new());
    for frame in frames {
        turn.push(frame, &mut chunks).expect("our own frames");
    }
    chunks.iter().map(str::to_owned).collect()
}

fn event(frame: &Frame) -> steerage::event::Event {
    Record::decode(&frame.json()).expect("our own JSON").event
}
