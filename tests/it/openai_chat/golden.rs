//! Every situation of a run, written out: which event gives which chunks, and which completion it is.
//!
//! A file of `tests/golden/openai_chat` says in its first line what happens; then `<` is an event, `>` a chunk, and `=`
//! the completion. Its name ends in `plain` where the reader has not asked for the usage. `STEERAGE_GOLDEN=write`
//! writes the files of the scripts anew; a file without a script is written by hand.

use std::{collections::BTreeSet, fs, path::PathBuf};

use steerage::{
    dialect::openai_chat::{Chunks, Options},
    frame::{Encoder, Frame},
};

use super::{
    READERS, completion, frames,
    reader::{Reader, check_object},
};

mod scripts;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/openai_chat/{name}.txt"))
}

fn options(name: &str) -> Options {
    Options { include_usage: !name.ends_with(".plain") }
}

/// The file of a log.
fn told(about: &str, log: &[Frame], options: Options) -> String {
    let mut file = format!("# {about}\n");
    let (mut completion, mut chunks, mut reader) = (completion(options), Chunks::new(), Reader::new(options));
    for frame in log {
        file += &format!("< {}\n", std::str::from_utf8(&frame.json()).expect("a text"));
        completion.push(frame, &mut chunks).expect("a frame");
        for chunk in chunks.iter() {
            reader.read(chunk);
            file += &format!("> {chunk}\n");
        }
        chunks.clear();
    }
    assert!(completion.is_over() && reader.is_done(), "{about}: the script tells it to its end");
    let object = completion.object();
    if reader.error.is_none() {
        check_object(&object, &reader);
    }
    file + &format!("= {object}\n")
}

/// The log of a file.
fn parse(file: &str) -> Vec<Frame> {
    let mut encoder = Encoder::default();
    let events = file.lines().filter_map(|line| line.strip_prefix("< "));
    let frame = |json: &str| {
        let (id, rest) = json.strip_prefix(r#"{"id":""#).and_then(|rest| rest.split_once("\",\"seq\":")).expect(json);
        let body = rest.split_once(',').expect(json).1;
        let frame = encoder.restore(id.parse().expect(json), body.as_bytes()).expect(json);
        assert_eq!(frame.json(), json.as_bytes(), "an event as it is stored");
        frame
    };
    events.map(frame).collect()
}

#[test]
fn every_situation_is_told_as_it_is_written() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path("x").parent().expect("a folder")).expect("the golden files") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let file = fs::read_to_string(&path).expect("a text");
        let about = file.lines().next().and_then(|line| line.strip_prefix("# ")).expect("what happens");
        let log = parse(&file);
        assert_eq!(told(about, &log, options(&name)), file, "{name}");
        for options in READERS {
            told(about, &log, options);
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
        let log = frames(&script().log);
        for name in *readers {
            let file = told(about, &log, options(name));
            if writes {
                fs::write(path(name), &file).expect("a file");
            }
            assert_eq!(file, fs::read_to_string(path(name)).unwrap_or_default(), "{name}");
        }
    }
}
