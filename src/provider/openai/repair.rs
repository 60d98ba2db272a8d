//! Second reading of a chunk that is not JSON to the letter.
//!
//! Three slips of otherwise sound servers are forgiven: `NaN` and `Infinity` (Python's encoder writes them), half of a
//! surrogate pair as an escape (a character cut between two tokens), a field that occurs twice (the last one counts).
//! Everything else stays what it is: not JSON.

use serde_json::Value;

/// The chunk as JSON, and whether a character was replaced. `None` if it cannot be read.
pub(super) fn repair(chunk: &str) -> Option<(String, bool)> {
    let (mended, lossy) = mend(chunk);
    // Reading into a tree makes fields unique.
    let tree: Value = serde_json::from_str(&mended).ok()?;
    Some((tree.to_string(), lossy))
}

/// Replaces the number names by `null` outside of texts, and half pairs by U+FFFD within.
fn mend(chunk: &str) -> (String, bool) {
    let mut mended = String::with_capacity(chunk.len());
    let mut lossy = false;
    let mut in_text = false;
    let mut rest = chunk;
    while let Some(next) = rest.chars().next() {
        let taken = match next {
            '"' => {
                in_text = !in_text;
                1
            }
            '\\' if in_text => match surrogates(rest) {
                Surrogates::Pair => 12,
                Surrogates::Half => {
                    lossy = true;
                    mended.push('\u{fffd}');
                    rest = &rest[6..];
                    continue;
                }
                Surrogates::None => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            },
            _ if in_text => next.len_utf8(),
            _ => match ["-Infinity", "Infinity", "NaN"].into_iter().find(|name| rest.starts_with(name)) {
                Some(name) => {
                    mended.push_str("null");
                    rest = &rest[name.len()..];
                    continue;
                }
                None => next.len_utf8(),
            },
        };
        mended.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    (mended, lossy)
}

enum Surrogates {
    Pair,
    Half,
    None,
}

/// What the escape at the start of `rest` is.
fn surrogates(rest: &str) -> Surrogates {
    let unit = |at: usize| {
        let hex = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => Surrogates::Pair,
        (Some(0xd800..=0xdfff), _) => Surrogates::Half,
        _ => Surrogates::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_forgiven() {
        let whole = |text: &str| (text.to_owned(), false);
        assert_eq!(repair(r#"{"a":NaN,"b":[-Infinity,Infinity]}"#), Some(whole(r#"{"a":null,"b":[null,null]}"#)));
        assert_eq!(repair(r#"{"a":1,"a":2}"#), Some(whole(r#"{"a":2}"#)));
        assert_eq!(repair(r#"["\ud83d\udc4b NaN \" \\"]"#), Some(whole("[\"\u{1f44b} NaN \\\" \\\\\"]")));
        assert_eq!(
            repair(r#"["a\ud83d","\udc4b","\ud83d\ud83d\udc4b"]"#).unwrap(),
            ("[\"a\u{fffd}\",\"\u{fffd}\",\"\u{fffd}\u{1f44b}\"]".to_owned(), true)
        );
    }

    #[test]
    fn what_is_not_json_stays_so() {
        for chunk in ["", "{", "{}{}", "nan", r#"{"a":"#, r#"["\u12"#, "[\"\\", "[\"\\u00\u{e9}\u{e9}\"]", "<html>"] {
            assert_eq!(repair(chunk), None, "{chunk}");
        }
    }
}
