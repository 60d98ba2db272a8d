//! Every situation of a run, written out: which event gives which chunks.
//!
//! A file of `tests/golden/ai_sdk` says in its first line what happens; then `<` is an event, `>` a chunk, and `|` is where
//! one response ends and the next one begins, because everything waits for the client. Its name may end in the version
//! that reads it. `STEERAGE_GOLDEN=write` writes the files of the scripts anew; a file without a script is written by hand.

use std::{collections::BTreeSet, fs, path::PathBuf};

use steerage::{
    dialect::ai_sdk::{Chunks, Options, Turn, Version},
    frame::{Encoder, Frame},
};

use super::{READERS, frames, rules::Client};

pub(crate) mod scripts;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/ai_sdk/{name}.txt"))
}

fn options(name: &str) -> Options {
    let (version, steering_message) = match name.rsplit_once('.').map(|(_, reader)| reader) {
        Some("v5") => (Version::V5, false),
        Some("v7") => (Version::V7, false),
        Some("v7-steering") => (Version::V7, true),
        None => (Version::V6, false),
        Some(other) => panic!("{other} is no reader"),
    };
    Options { version, steering_message }
}

/// The file of a log. A response ends where everything waits and the log is at rest: after these many frames.
fn told(about: &str, log: &[Frame], rests: &BTreeSet<usize>, options: Options) -> String {
    let mut file = format!("# {about}\n");
    let (mut turn, mut chunks, mut client) = (Turn::new(options), Chunks::new(), Client::new(options));
    for (n, frame) in (1..).zip(log) {
        // What is said to the model, or of its history, comes before the next message.
        if turn.is_over() && matches!(frame.kind(), "input.added" | "history.rewound" | "history.diverged") {
            (turn, client) = (Turn::new(options), Client::new(options));
            turn.push(&log[0], &mut chunks).expect("a frame");
        }
        file += &format!("< {}\n", std::str::from_utf8(&frame.json()).expect("a text"));
        turn.push(frame, &mut chunks).expect("a frame");
        let mut pour = |chunks: &mut Chunks| {
            for chunk in chunks.iter() {
                client.read(chunk);
                file += &format!("> {chunk}\n");
            }
            chunks.clear();
        };
        pour(&mut chunks);
        if rests.contains(&n) && turn.waits() {
            turn.pause(&mut chunks);
            pour(&mut chunks);
            turn.restart(&mut chunks);
            file += "|\n";
            for chunk in chunks.iter() {
                client.read(chunk);
                file += &format!("> {chunk}\n");
            }
            chunks.clear();
        }
    }
    assert!(turn.is_over() && client.has_finished(), "{about}: the script tells it to its end");
    assert_eq!(client.open_calls(), Vec::<&str>::new(), "{about}");
    file
}

/// The log of a file, and where it rests.
pub(crate) fn parse(file: &str) -> (Vec<Frame>, BTreeSet<usize>) {
    let (mut log, mut rests, mut encoder) = (Vec::new(), BTreeSet::new(), Encoder::default());
    for line in file.lines() {
        if let Some(json) = line.strip_prefix("< ") {
            let (id, rest) =
                json.strip_prefix(r#"{"id":""#).and_then(|rest| rest.split_once("\",\"seq\":")).expect(json);
            let body = rest.split_once(',').expect(json).1;
            let frame = encoder.restore(id.parse().expect(json), body.as_bytes()).expect(json);
            assert_eq!(frame.json(), json.as_bytes(), "an event as it is stored");
            log.push(frame);
        } else if line == "|" {
            rests.insert(log.len());
        }
    }
    (log, rests)
}

#[test]
fn every_situation_is_told_as_it_is_written() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path("x").parent().expect("a folder")).expect("the golden files") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let file = fs::read_to_string(&path).expect("a text");
        let about = file.lines().next().and_then(|line| line.strip_prefix("# ")).expect("what happens");
        let (log, rests) = parse(&file);
        let told_now = told(about, &log, &rests, options(&name));
        assert_eq!(told_now, file, "{name}");
        // The other readers are told it in their own words, and never what they do not know.
        for options in READERS {
            told(about, &log, &rests, options);
        }
        names.insert(name);
    }
    let scripts = scripts::ALL.iter().flat_map(|(readers, ..)| readers.iter().copied());
    assert_eq!(names, scripts.map(str::to_owned).collect());
}

#[test]
fn the_machine_writes_the_logs_that_are_told() {
    let writes = std::env::var("STEERAGE_GOLDEN").is_ok_and(|what| what == "write");
    for (readers, about, script) in scripts::ALL {
        let life = script();
        let (log, ends) = (frames(&life.log), life.ends.iter().copied().collect());
        for name in *readers {
            let file = told(about, &log, &ends, options(name));
            if writes {
                fs::write(path(name), &file).expect("a file");
            }
            assert_eq!(file, fs::read_to_string(path(name)).unwrap_or_default(), "{name}");
        }
    }
}
