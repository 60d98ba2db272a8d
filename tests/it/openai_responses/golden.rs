//! Every situation of a run, written out: which event gives which events of which response.
//!
//! A file of `tests/golden/openai_responses` says in its first line what happens; then `<` is an event of the log, `>` one
//! of a response, and `|` is where the next response begins. `STEERAGE_GOLDEN=write` writes the files of the scripts anew.

use std::{collections::BTreeSet, fs, path::PathBuf};

use steerage::{dialect::openai_responses::Chunks, frame::Frame};

use super::{fold, rules::Reader, turns};
use crate::ai_sdk::fold::{
    frames,
    golden::{
        parse,
        scripts::{self, Script},
    },
    runs,
};

mod more;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/openai_responses/{name}.txt"))
}

/// The situations of the other dialect, and what only this one tells apart.
fn all() -> impl Iterator<Item = &'static Script> {
    scripts::ALL.iter().chain(more::ALL)
}

/// The file of a log.
fn told(about: &str, log: &[Frame]) -> String {
    let mut file = format!("# {about}\n");
    let (mut now, mut reader) = (fold(log), Reader::default());
    for frame in log {
        // What is said to the model, or of its history, comes before the next run.
        if now.run_is_over() && frame.kind() == "run.started" {
            (now, reader) = (fold(log), Reader::default());
        }
        file += &format!("< {}\n", std::str::from_utf8(&frame.json()).expect("a text"));
        if frame.kind() == "session.created" {
            continue;
        }
        let (before, mut chunks) = (now.turn(), Chunks::new());
        let earlier = now.push(frame, &mut chunks).expect("a frame");
        for (at, chunk) in chunks.iter().enumerate() {
            if at == earlier && now.turn() > before && before > 0 {
                assert!(std::mem::take(&mut reader).end.is_some(), "{about}: the turn before has its end");
                file += "|\n";
            }
            reader.read(chunk);
            file += &format!("> {chunk}\n");
        }
    }
    assert!(now.run_is_over() && reader.end.is_some(), "{about}: the script tells it to its end");
    for run in runs(log) {
        let due = turns::turns(&run);
        assert_eq!(super::told(&run).len(), due.len(), "{about}");
    }
    file
}

#[test]
fn every_situation_is_told_as_it_is_written() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path("x").parent().expect("a folder")).expect("the golden files") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let file = fs::read_to_string(&path).expect("a text");
        let about = file.lines().next().and_then(|line| line.strip_prefix("# ")).expect("what happens");
        assert_eq!(told(about, &parse(&file).0), file, "{name}");
        names.insert(name);
    }
    assert_eq!(names, all().map(|(readers, ..)| readers[0].to_owned()).collect());
}

#[test]
fn the_machine_writes_the_logs_that_are_told() {
    let writes = std::env::var("STEERAGE_GOLDEN").is_ok_and(|what| what == "write");
    for (readers, about, script) in all() {
        let (name, file) = (readers[0], told(about, &frames(&script().log)));
        if writes {
            fs::create_dir_all(path(name).parent().expect("a folder")).expect("a folder");
            fs::write(path(name), &file).expect("a file");
        }
        assert_eq!(file, fs::read_to_string(path(name)).unwrap_or_default(), "{name}");
    }
}
