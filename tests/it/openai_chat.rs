//! The Chat Completions dialect: what an unmodified client of OpenAI's is sent.
//!
//! `reader` is a client as strict as the strictest, `golden` has every situation written out, `kinds` looks at single
//! chunks, `logs` folds whatever the machine writes.

use serde_json::Value;
use steerage::{
    dialect::openai_chat::{Chunks, Completion, Options},
    frame::{Encoder, Frame},
    session::state::Stamped,
};

mod golden;
mod kinds;
mod logs;
mod reader;

/// A reader of either kind.
const READERS: [Options; 2] = [Options { include_usage: true }, Options { include_usage: false }];

/// The log as its readers get it.
fn frames(log: &[Stamped]) -> Vec<Frame> {
    let mut encoder = Encoder::default();
    log.iter().map(|stamped| encoder.encode(stamped.id, stamped.at, &stamped.event)).collect()
}

/// The log of each run, with the first event of the session before it.
fn runs(frames: &[Frame]) -> Vec<Vec<Frame>> {
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

fn completion(options: Options) -> Completion {
    Completion::new("s".parse().expect("an id"), options)
}

/// All chunks of a run, and the completion.
fn fold(frames: &[Frame], options: Options) -> (Vec<String>, Completion) {
    let (mut completion, mut chunks) = (completion(options), Chunks::new());
    for frame in frames {
        completion.push(frame, &mut chunks).expect("our own frames");
    }
    (chunks.iter().map(str::to_owned).collect(), completion)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
