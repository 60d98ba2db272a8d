//! The catalogue of bad inputs, whole: every row of the project's list (HTTP, event streams, WebSocket, commands,
//! credentials) has a test that names it, or says here where it is shown, or why it cannot happen.

mod rest;

use std::{collections::BTreeMap, path::Path};

/// How many rows each part has.
const PARTS: [(char, u32); 5] = [('H', 24), ('S', 22), ('W', 20), ('C', 24), ('A', 18)];

/// Rows that no test and no label is named after: the test that shows them.
const SHOWN_BY: [(&str, &str); 18] = [
    ("H21", "the_address_is_the_peers_whatever_headers_say"),
    ("S3", "r2_a_cursor_of_this_history_is_served_exactly"),
    ("S7", "r4_a_cursor_that_cannot_be_honoured_is_told_in_band_and_continued_from_a_snapshot"),
    ("S14", "r2_at_every_byte_offset_the_last_id_is_that_of_the_last_whole_event"),
    ("S16", "until_idle_ends_with_the_run_and_204_tells_a_browser_to_stay_away"),
    ("S21", "c_texts_that_look_dangerous_are_texts"),
    ("C6", "r5_the_same_command_has_one_effect_and_one_receipt"),
    ("C7", "r5_the_same_command_has_one_effect_and_one_receipt"),
    ("C10", "of_a_run_that_has_ended_changes_nothing_and_is_no_error"),
    ("C11", "twice_at_once_one_is_applied_and_both_are_right"),
    ("C12", "r7_a_cancel_is_a_barrier_wherever_it_meets_the_run"),
    ("C22", "the_idempotency_key_is_the_command_id"),
    ("C23", "by_a_client_that_leaves_before_the_answer"),
    ("A3", "a_token_says_what_it_is"),
    ("A8", "r15_every_credential_at_every_door_of_every_session"),
    ("W9", "a_socket_takes_its_key_as_a_subprotocol_and_never_repeats_it"),
    ("W1", "a11_and_w1_with_a_cookie_a_page_has_to_say_its_origin_where_it_acts"),
    ("A13", "a13_an_origin_is_compared_as_a_whole"),
];

/// Rows that cannot happen here.
const CANNOT_HAPPEN: [(&str, &str); 5] = [
    ("S6", "a log is whole until its session expires or is deleted: nothing of it is trimmed"),
    ("C13", "a session is on one node"),
    ("A4", "a token has no time before which it is not good"),
    ("A5", "a token has no audience, issuer or type: there is one issuer, and it is the audience"),
    (
        "A16",
        "a session's name protects nothing: without the tenant's key or a token of that session it is not there (A7)",
    ),
];

/// Every file that proves something, by its path.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.join("tests"), root.join("src"), root.join("scripts")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.extend((!path.ends_with("node_modules")).then_some(path));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                found.insert(path.to_string_lossy().into_owned(), text);
            }
        }
    }
    found.retain(|path, _| !path.ends_with("it/catalogue.rs"));
    found
}

/// Whether a test is named after the row (`h13_…`, also as one of several), or a label in one begins with it.
fn named(text: &str, row: &str) -> bool {
    let name = row.to_ascii_lowercase();
    let as_name = |line: &str| {
        let Some((_, rest)) = line.split_once("fn ") else { return false };
        let rows =
            rest.split('_').take_while(|word| word.len() < 4 || word.bytes().skip(1).all(|b| b.is_ascii_digit()));
        rows.into_iter().any(|word| word == name)
    };
    let as_label = |line: &str| {
        let mut at = 0;
        std::iter::from_fn(|| {
            let found = line[at..].find(row)? + at;
            at = found + row.len();
            Some((line[..found].chars().last(), line[at..].chars().next()))
        })
        .any(|(before, after)| {
            before.is_none_or(|c| !c.is_alphanumeric()) && after.is_none_or(|c| !c.is_alphanumeric())
        })
    };
    text.lines().any(|line| as_name(line) || (!line.trim_start().starts_with("//!") && as_label(line)))
}

#[test]
fn every_row_of_the_catalogue_is_shown_or_cannot_happen() {
    let sources = sources();
    let mut missing = Vec::new();
    for (part, rows) in PARTS {
        for row in (1..=rows).map(|n| format!("{part}{n}")) {
            let elsewhere = SHOWN_BY.iter().find(|(known, _)| *known == row).map(|(_, test)| *test);
            let cannot = CANNOT_HAPPEN.iter().any(|(known, _)| *known == row);
            let shown = match elsewhere {
                Some(test) => sources.values().any(|text| text.contains(&format!("fn {test}("))),
                None => cannot || sources.values().any(|text| named(text, &row)),
            };
            missing.extend((!shown).then_some(row));
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "rows that nothing shows");
}
