//! Every example runs, says what it promises and ends by itself.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// Longest that an example may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The standard output of an example that must succeed. Cargo builds examples before it runs tests, next to them:
/// `target/…/deps/it-HASH` and `target/…/examples/NAME`.
async fn run(name: &str) -> String {
    let test = std::env::current_exe().expect("a test has a file");
    let folder = test.ancestors().nth(2).expect("target/PROFILE");
    let example: PathBuf = folder.join("examples").join(name);
    assert!(example.exists(), "{} is not built: run `cargo build --examples`", example.display());
    let child = Command::new(example).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, child).await.expect("an example ends by itself").expect("an example can be run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[tokio::test]
async fn embed_serves_both_routes_and_stops_whole() {
    let out = run("embed").await;
    assert!(out.contains("from a route of my own"), "{out}");
    assert!(out.contains("Steerage answers beside it"), "{out}");
    assert!(out.contains("stopped: Whole"), "{out}");
}

#[tokio::test]
async fn provider_answers_with_the_help_of_its_tool() {
    let out = run("provider").await;
    assert!(out.contains(r#"calls "count_words" {"text":"how many words are these"}"#), "{out}");
    assert!(out.contains("gets 5\n"), "{out}");
    assert!(out.contains("I counted 5 words."), "{out}");
}

#[tokio::test]
async fn resume_shows_one_text_over_three_connections() {
    let out = run("resume").await;
    assert_eq!(out.matches(" cut after ").count(), 2, "{out}");
    assert!(out.contains("equal to the log"), "{out}");
}

#[tokio::test]
async fn steer_turns_the_story_and_approves_with_other_arguments() {
    let out = run("steer").await;
    assert!(out.contains(r#"steer "applied""#), "{out}");
    let (_, after) = out.split_once("> Let there be a lighthouse").expect("the steer is in the log");
    assert!(after.contains("lighthouse"), "the story takes the wish up: {out}");
    assert!(out.contains(r#"it wants "get_weather" {"city":"Oslo"}"#), "{out}");
    assert!(out.contains("In Bergen it is"), "{out}");
    assert_eq!(out.matches("-- the run is complete --").count(), 2, "{out}");
}
