//! Upstreams: recorded answers through the fold at every split, then real sockets.

use std::{fmt::Write as _, fs, path::PathBuf};

use serde_json::{Value, json};
use steerage::{
    event::FailureCode,
    provider::{
        Delta, ProviderError, Retry,
        openai::{Fold, Progress},
    },
    sse,
};

mod connection;
mod prefill;
mod raw;
mod refusals;

/// What an answer came to: its deltas, and its error if it had one.
#[derive(Debug, PartialEq)]
struct Outcome {
    deltas: Vec<Delta>,
    error: Option<ProviderError>,
}

/// The answer in these pieces, followed by the end of the stream.
fn fold<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut fold = Fold::default();
    let mut deltas = Vec::new();
    let read = || {
        for piece in pieces {
            if fold.push(piece, &mut deltas)?.done {
                return Ok(());
            }
        }
        fold.end(&mut deltas)
    };
    let error = read().err();
    Outcome { deltas, error }
}

/// An outcome as the golden files have it: one JSON value per line.
fn written(outcome: &Outcome) -> String {
    let lossy = |kind: &str, text: &str, lossy: bool| match lossy {
        true => json!({kind: text, "lossy": true}),
        false => json!({kind: text}),
    };
    let delta = |delta: &Delta| match delta {
        Delta::Text { text, lossy: l } => lossy("text", text, *l),
        Delta::Reasoning { text, lossy: l } => lossy("reasoning", text, *l),
        Delta::ToolCall { index, id, name } => json!({"tool_call": {"index": index, "id": id, "name": name}}),
        Delta::Arguments { index, fragment } => json!({"arguments": fragment, "index": index}),
        Delta::End { finish_reason, usage, warning } => {
            json!({"end": {"finish_reason": finish_reason, "usage": usage, "warning": warning}})
        }
    };
    let mut lines: Vec<Value> = outcome.deltas.iter().map(delta).collect();
    if let Some(ProviderError { code, message, retry }) = &outcome.error {
        let retry = format!("{retry:?}").to_lowercase();
        lines.push(json!({"error": {"code": code, "message": message, "retry": retry}}));
    }
    let mut text = String::from("[");
    for (n, line) in lines.iter().enumerate() {
        write!(text, "{}\n  {line}", if n == 0 { "" } else { "," }).unwrap();
    }
    text + "\n]\n"
}

/// Every recording with the place of what is expected of it.
fn recordings() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/upstream");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut recordings: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sse"))
        .map(|path| (path.with_extension("expected.json"), fs::read(&path).unwrap()))
        .collect();
    recordings.sort();
    recordings
}

#[test]
fn recorded_answers_give_what_is_expected() {
    let update = std::env::var_os("STEERAGE_UPDATE_GOLDEN").is_some();
    let recordings = recordings();
    assert!(recordings.len() > 50, "only {} recordings", recordings.len());
    for (expected, bytes) in recordings {
        let got = written(&fold([&bytes[..]]));
        if update {
            fs::write(&expected, &got).unwrap();
        }
        let want = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(got, want, "{} (STEERAGE_UPDATE_GOLDEN=1 writes it anew)", expected.display());
    }
}

#[test]
fn a_split_at_any_byte_changes_nothing() {
    for (name, bytes) in recordings() {
        let whole = fold([&bytes[..]]);
        for at in 0..=bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert_eq!(fold([left, right]), whole, "{} at {at}", name.display());
        }
        assert_eq!(fold(bytes.chunks(1)), whole, "{} byte by byte", name.display());
    }
}

/// An answer ends with `Delta::End` or with an error, never with both or neither.
#[test]
fn every_prefix_of_an_answer_has_one_ending() {
    for (name, bytes) in recordings() {
        for at in 0..=bytes.len() {
            let outcome = fold([&bytes[..at]]);
            let ends = outcome.deltas.iter().filter(|delta| matches!(delta, Delta::End { .. })).count();
            assert_eq!(ends + usize::from(outcome.error.is_some()), 1, "{} cut at {at}: {outcome:?}", name.display());
        }
    }
}

/// R21: an answer that is cut before its `finish_reason` never looks whole.
#[test]
fn r21_no_prefix_before_the_finish_reason_looks_completed() {
    let bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/upstream/openai_text.sse")).unwrap();
    let finish = String::from_utf8(bytes.clone()).unwrap().find(r#""finish_reason":"stop""#).unwrap();
    for at in 0..finish {
        let error = fold([&bytes[..at]]).error.unwrap_or_else(|| panic!("cut at {at} looks completed"));
        assert_eq!(error.code, FailureCode::UpstreamTruncated, "cut at {at}");
    }
}

#[test]
fn a_line_without_end_is_cut_at_its_limit() {
    let mut fold = Fold::default();
    let mut deltas = Vec::new();
    let chunk = br#"data: {"choices":[{"delta":{"content":"a"}}]}"#;
    fold.push(&[&chunk[..], b"\n\ndata: "].concat(), &mut deltas).unwrap();
    let junk = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    let error = loop {
        match fold.push(&junk, &mut deltas) {
            Ok(progress) => assert_eq!(progress, Progress::default()),
            Err(error) => break error,
        }
        sent += junk.len();
        assert!(sent <= sse::LINE_MAX_BYTES, "no end after {sent} bytes");
    };
    assert_eq!((error.code, error.retry), (FailureCode::UpstreamLineTooLong, Retry::Never));
    assert_eq!(deltas, [Delta::Text { text: "a".into(), lossy: false }], "what came before is kept");
}

#[test]
fn an_answer_has_a_bounded_number_of_tool_calls() {
    let call = |index| {
        let call = json!({"index": index, "function": {"name": "f", "arguments": "{}"}});
        format!("data: {}\n\n", json!({"choices": [{"delta": {"tool_calls": [call]}}]}))
    };
    let outcome = fold((0..200).map(call).collect::<Vec<_>>().iter().map(String::as_bytes));
    assert_eq!(outcome.error.map(|error| error.code), Some(FailureCode::Limit));
    assert_eq!(outcome.deltas.len(), 2 * 128);
}
