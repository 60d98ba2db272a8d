//! The truth: every word of every answer is a function of the seed, the session, the turn, the step and its number.
//!
//! The upstream speaks it, the checker knows it, and the server between them knows nothing of it: a word that is lost,
//! doubled or invented cannot be right by chance, because each carries its number.

use std::time::Duration;

use serde_json::{Value, json};

/// Tool that may be run once at most, and only after a person's yes.
pub(crate) const ACT: &str = "act";
/// Tool that may be run again after a crash.
pub(crate) const ACT_IDEM: &str = "act_idem";

/// Words of several alphabets, of one to nine bytes a letter, and what JSON and SSE have to escape.
const WORDS: [&str; 16] = [
    "sail",
    "sjö",
    "море",
    "海",
    "🌊",
    "rivière",
    "naïve",
    "日本語",
    "κύμα",
    "बंदर",
    "👩🏽‍🚀",
    "\"quote\"",
    "back\\slash",
    "{brace}",
    "data:",
    "ø",
];

/// What stands between words.
const GAPS: [&str; 8] = [" ", " ", " ", " ", ", ", "\n", ".\n\n", "\u{2028}"];

/// The model that goes on after a trailing assistant message, and the one that refuses to.
pub(crate) const GOES_ON: &str = "m";
pub(crate) const REFUSES: &str = "n";

/// Characters that a model says again at least, when it says anything again.
const REPEATED_CHARS_MIN: usize = 8;

/// Between two words of an answer that takes seconds.
const LONG_PACE_US: u64 = 60_000;

/// The source of all answers of one run of the harness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oracle {
    pub(crate) seed: u64,
}

/// How one turn of a conversation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// How often each model call is refused with 503 before it is answered.
    pub(crate) refusals: u32,
    /// Between two words; zero is as fast as the socket takes them.
    pub(crate) pace: Duration,
    /// Answers that end in tool calls before the one that ends the turn.
    pub(crate) rounds: u32,
}

/// One whole answer of the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) reasoning: Vec<String>,
    pub(crate) words: Vec<String>,
    pub(crate) calls: Vec<Call>,
}

/// A tool call of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// As the upstream names it; different for every call of the whole run.
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) arguments: Value,
}

impl Turn {
    /// Whether it is over soon, if nobody refuses.
    pub(crate) fn is_short(self) -> bool {
        self.refusals < 2 && self.pace < Duration::from_micros(LONG_PACE_US)
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        self.words.concat()
    }

    pub(crate) fn thought(&self) -> String {
        self.reasoning.concat()
    }
}

impl Oracle {
    fn hash(self, parts: &[&str]) -> u64 {
        // FNV-1a over the parts, each ended by a byte that no text has; then the finish of SplitMix64.
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ self.seed;
        for part in parts {
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }

    /// The model of a session.
    pub(crate) fn model(self, session: &str) -> &'static str {
        if self.hash(&["model", session]).is_multiple_of(3) { REFUSES } else { GOES_ON }
    }

    /// What of its answer the model says again when it goes on behind `said`: nothing, its last words when it was asked
    /// in words, all of it where a server gives the prefix back.
    pub(crate) fn repeats<'a>(self, session: &str, turn: &str, said: &'a str, in_words: bool) -> &'a str {
        let again = match (in_words, self.hash(&["repeats", session, turn]) % 5) {
            (true, words @ 1..4) => {
                let starts = said.char_indices().filter(|(at, _)| is_word_start(said, *at)).map(|(at, _)| at).rev();
                // A few characters come again by chance, too: nobody can tell them from a repetition.
                let long = |at: &usize| said[*at..].chars().count() >= REPEATED_CHARS_MIN;
                starts.skip(words as usize - 1).find(long).unwrap_or(0)
            }
            (false, 1) | (true, 4) => 0,
            _ => said.len(),
        };
        if again == 0 && !in_words && said.chars().count() < REPEATED_CHARS_MIN { "" } else { &said[again..] }
    }

    pub(crate) fn turn(self, session: &str, turn: &str) -> Turn {
        let mut dice = fastrand::Rng::with_seed(self.hash(&["turn", session, turn]));
        let refusals = match dice.u32(..1000) {
            0..2 => u32::MAX,
            2..30 => 1,
            _ => 0,
        };
        let pace = match dice.u32(..100) {
            0..25 => 0,
            25..60 => dice.u64(500..4_000),
            60..96 => dice.u64(4_000..18_000),
            // Words that are still to come when everybody else has finished.
            _ => LONG_PACE_US,
        };
        let rounds = match dice.u32(..10) {
            0..7 => 0,
            7..9 => 1,
            _ => 2,
        };
        Turn { refusals, pace: Duration::from_micros(pace), rounds }
    }

    pub(crate) fn answer(self, session: &str, turn: &str, step: u32) -> Answer {
        let number = step.to_string();
        let mut dice = fastrand::Rng::with_seed(self.hash(&["answer", session, turn, &number]));
        let plan = self.turn(session, turn);
        let slow = plan.pace > Duration::from_millis(3);
        let reasoning = if dice.u32(..4) == 0 { dice.usize(1..20) } else { 0 };
        let calls = match step < plan.rounds {
            true => dice.u32(1..3),
            false => 0,
        };
        // Most answers with calls say something first, and every other one says something at all.
        let length = match () {
            () if calls > 0 && dice.u32(..3) == 0 => 0,
            () if calls > 0 => dice.usize(1..15),
            () if !plan.is_short() => dice.usize(40..60),
            () if slow => dice.usize(5..50),
            () => dice.usize(1..160),
        };
        let mut words = |count: usize, kind: &str| -> Vec<String> {
            let word = |n: usize, dice: &mut fastrand::Rng| {
                let (word, gap) = (WORDS[dice.usize(..WORDS.len())], GAPS[dice.usize(..GAPS.len())]);
                // The last one ends without a gap: what trims white space at the end must not be able to hide.
                if n + 1 == count { format!("{word}{kind}{n}") } else { format!("{word}{kind}{n}{gap}") }
            };
            (0..count).map(|n| word(n, &mut dice)).collect()
        };
        let (reasoning, words) = (words(reasoning, "?"), words(length, "-"));
        let call = |n: u32| {
            let key = format!("{session}/{turn}/{step}/{n}");
            let name = if dice.u32(..3) == 0 { ACT_IDEM } else { ACT };
            Call {
                id: format!("call_{:016x}", self.hash(&["call", &key])),
                name,
                arguments: json!({"key": key, "n": dice.u32(..1000)}),
            }
        };
        Answer { reasoning, words, calls: (0..calls).map(call).collect() }
    }
}

/// Whether a word begins at this place of a text: at its beginning, and behind a gap.
fn is_word_start(text: &str, at: usize) -> bool {
    at == 0 || (text[..at].ends_with(char::is_whitespace) && !text[at..].starts_with(char::is_whitespace))
}

/// What a tool gives for its arguments.
pub(crate) fn output(arguments: &Value) -> Value {
    json!({"done": arguments["key"], "n": arguments["n"]})
}

/// What is said to the model: enough to know the answer from.
pub(crate) fn say(session: &str, turn: &str) -> String {
    format!("Ahoj, tell me of the sea 🌊 [[session={session}; turn={turn}]]")
}

/// The session and the turn that a text names last.
pub(crate) fn read(text: &str) -> Option<(&str, &str)> {
    let (_, marker) = text.rsplit_once("[[")?;
    let (marker, _) = marker.split_once("]]")?;
    let (session, turn) = marker.split_once("; ")?;
    Some((session.strip_prefix("session=")?, turn.strip_prefix("turn=")?))
}

/// The oracle's own tests, run when the harness starts.
pub(crate) const TESTS: &[crate::selftest::Test] = &[
    ("oracle: the same question has the same answer", || {
        let (a, b) = (Oracle { seed: 7 }, Oracle { seed: 8 });
        assert_eq!(a.answer("s", "t", 0), a.answer("s", "t", 0));
        let texts: Vec<String> =
            ["t", "u"].iter().flat_map(|turn| [a.answer("s", turn, 0).text(), b.answer("s", turn, 0).text()]).collect();
        for (n, text) in texts.iter().enumerate() {
            assert!(!texts[..n].contains(text), "{text}");
        }
    }),
    ("oracle: the last round of a turn has no calls, every other one has", || {
        let oracle = Oracle { seed: 1 };
        for n in 0..200 {
            let turn = n.to_string();
            let rounds = oracle.turn("s", &turn).rounds;
            assert!((0..rounds).all(|step| !oracle.answer("s", &turn, step).calls.is_empty()));
            let last = oracle.answer("s", &turn, rounds);
            assert!(last.calls.is_empty() && !last.words.is_empty());
        }
    }),
    ("oracle: what is said again is the end of what was said, in whole words, or all of it", || {
        let oracle = Oracle { seed: 1 };
        let mut lengths = std::collections::BTreeSet::new();
        for n in 0..100 {
            let (turn, said) = (n.to_string(), "sail-0 ø-1, 海-2.\n\nmore-3");
            let again = oracle.repeats("s", &turn, said, true);
            assert!(said.ends_with(again) && (again.is_empty() || again.chars().count() >= REPEATED_CHARS_MIN));
            lengths.insert(again.len());
            let back = oracle.repeats("s", &turn, said, false);
            assert!(back.is_empty() || back == said);
            assert!(oracle.repeats("s", &turn, "ø-0", false).is_empty(), "too short to tell");
        }
        assert_eq!(lengths.len(), 4, "{lengths:?}");
    }),
    ("oracle: a marker is found in what was joined", || {
        let joined = format!("{}\n\n{}", say("a", "one"), say("a", "two"));
        assert_eq!(read(&joined), Some(("a", "two")));
        assert_eq!(read("go on"), None);
    }),
];
