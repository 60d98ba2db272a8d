//! The seam of an answer that goes on after a crash: what comes is laid against what was shown, and what only repeats
//! it is left out.
//!
//! Two kinds of text come twice. A model that is asked to go on, or a server that gives its prefix back, may begin with
//! words that were shown: text is held back while it may still be such a repetition, and then only the rest is shown.
//! And white space: a prompt ends without the white space at the end of the shown text (chat templates take it off, one
//! service refuses it, and it spoils the first token), so the model says it again, and as much of it as is the same is
//! left out.
//!
//! What is shown is a function of the text alone, however it is cut into deltas.

/// Characters of the shortest repetition that is taken for one: shorter ones come about by chance.
const REPEATED_CHARS_MIN: usize = 8;
/// Letters of the shortest last word that may be said again by itself: nothing is written as "thethe".
const WORD_CHARS_MIN: usize = 2;
/// Bytes at the end of the shown text in which a repetition may begin: a few paragraphs.
const TAIL_BYTES_MAX: usize = 1_024;
/// Bytes of a shown text whose repetition from its very beginning is recognised, and so of what is ever held back.
const WHOLE_BYTES_MAX: usize = 64 * 1_024;

/// What of the shown text may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// None of it: the provider is known to go on exactly.
    Nothing,
    /// All of it, from its beginning: some servers give the prefix back. Not where it is too short to tell.
    Whole,
    /// All of it, however short, or its last words.
    Tail,
}

/// The seam while it may still hide something.
#[derive(Debug)]
pub(super) struct Seam {
    /// What was shown, without the white space at its end.
    shown: String,
    /// Where in it a repetition may have begun, the longest first.
    starts: Vec<usize>,
    /// What came and may be a repetition.
    held: String,
    decided: bool,
    /// White space that was shown last and has not come again.
    space: String,
}

impl Seam {
    /// The seam after `shown`.
    pub(super) fn new(shown: &str, repeats: Repeats) -> Self {
        let solid = shown.trim_end();
        let starts = starts(solid, repeats);
        let space = shown[solid.len()..].to_owned();
        Self { shown: solid.to_owned(), decided: starts.is_empty(), starts, held: String::new(), space }
    }

    /// Takes more text in, and gives what of it is new and can be shown now.
    pub(super) fn push(&mut self, text: &str) -> String {
        if self.decided {
            return self.after_space(text);
        }
        let before = self.held.len();
        let shown = &self.shown;
        self.starts.retain(|start| {
            // Those that have come whole stay; of the others the next bytes must be these.
            shown.get(start + before..).is_none_or(|rest| rest.starts_with(text) || text.starts_with(rest))
        });
        self.held.push_str(text);
        if self.starts.first().is_some_and(|longest| shown.len() - longest > self.held.len()) {
            return String::new();
        }
        self.decide()
    }

    /// Something else than text comes, or nothing more: gives what was held back and is new. What has not begun to come
    /// may still come.
    pub(super) fn release(&mut self) -> String {
        if self.decided || self.held.is_empty() { String::new() } else { self.decide() }
    }

    /// Whether all that comes from now on is new.
    pub(super) fn is_over(&self) -> bool {
        self.decided && self.space.is_empty()
    }

    /// The longest repetition that has come whole is left out.
    fn decide(&mut self) -> String {
        self.decided = true;
        let held = std::mem::take(&mut self.held);
        let whole = self.starts.iter().map(|start| self.shown.len() - start).find(|length| *length <= held.len());
        self.after_space(&held[whole.unwrap_or(0)..])
    }

    fn after_space(&mut self, text: &str) -> String {
        let same = text.bytes().zip(self.space.bytes()).take_while(|(new, old)| new == old).count();
        let same = text.floor_char_boundary(same);
        self.space.drain(..same);
        if same < text.len() {
            self.space.clear();
        }
        text[same..].to_owned()
    }
}

fn starts(shown: &str, repeats: Repeats) -> Vec<usize> {
    let mut starts = Vec::new();
    let long_enough = || shown.chars().nth(REPEATED_CHARS_MIN - 1).is_some();
    if !shown.is_empty()
        && shown.len() <= WHOLE_BYTES_MAX
        && (repeats == Repeats::Tail || (repeats == Repeats::Whole && long_enough()))
    {
        starts.push(0);
    }
    if repeats == Repeats::Tail {
        let tail = shown.ceil_char_boundary(shown.len().saturating_sub(TAIL_BYTES_MAX)).max(1);
        let last = shown.char_indices().rev().nth(REPEATED_CHARS_MIN - 1).map_or(0, |(at, _)| at);
        starts.extend((tail..=last).filter(|at| shown.is_char_boundary(*at)));
        let word = shown.trim_end_matches(char::is_alphabetic).len();
        let letters = shown[word..].chars().count();
        if word > last && letters >= WORD_CHARS_MIN {
            starts.push(word);
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown_of(shown: &str, repeats: Repeats, pieces: &[&str]) -> String {
        let mut seam = Seam::new(shown, repeats);
        let mut new: String = pieces.iter().map(|piece| seam.push(piece)).collect();
        new.push_str(&seam.release());
        new
    }

    /// The definition, without a thought for streaming.
    fn defined(shown: &str, repeats: Repeats, new: &str) -> String {
        let solid = shown.trim_end();
        let chars = |text: &str| text.chars().count();
        let word = solid.rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        let counts = |suffix: &str| match repeats {
            Repeats::Nothing => false,
            Repeats::Whole => suffix.len() == solid.len() && chars(suffix) >= 8,
            Repeats::Tail => {
                suffix.len() == solid.len()
                    || (chars(suffix) >= 8 && suffix.len() <= 1_024)
                    || (suffix == word && chars(word) >= 2)
            }
        };
        let ends = solid.char_indices().map(|(at, _)| &solid[at..]);
        let overlap = ends.filter(|end| counts(end) && new.starts_with(end)).map(str::len).max().unwrap_or(0);
        let rest = &new[overlap..];
        let space = &shown[solid.len()..];
        let same = rest.chars().zip(space.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        rest[same..].to_owned()
    }

    #[test]
    fn a_repetition_is_left_out_and_a_chance_is_not() {
        let tail = |shown, new| shown_of(shown, Repeats::Tail, &[new]);
        assert_eq!(tail("It was the third day out", "the third day out of Halifax"), " of Halifax");
        assert_eq!(tail("It was the third day out", " of Halifax"), " of Halifax");
        assert_eq!(tail("It was so ", "so far"), "far", "the last word, said again");
        assert_eq!(tail("an elep", "elephant"), "hant", "half a word, begun again");
        assert_eq!(tail("1, 2", "2, 3"), "2, 3", "a number is not a word");
        assert_eq!(tail("ends in a", "apple"), "apple", "one letter is a chance");
        assert_eq!(tail("I", "I think"), " think", "all of it");
        assert_eq!(tail("", "Hello"), "Hello");
        let whole = |shown, new| shown_of(shown, Repeats::Whole, &[new]);
        assert_eq!(whole("It was the third", "It was the third day"), " day");
        assert_eq!(whole("It was the third day", "the third day out"), "the third day out");
        assert_eq!(whole("ha ha ", "ha ha ha"), "ha ha ha", "too short to tell");
        assert_eq!(shown_of("It was the third", Repeats::Nothing, &["It was the third"]), "It was the third");
    }

    #[test]
    fn white_space_comes_once() {
        for repeats in [Repeats::Nothing, Repeats::Whole, Repeats::Tail] {
            assert_eq!(shown_of("One. \n\n", repeats, &[" ", "\n", "\nTwo"]), "Two");
            assert_eq!(shown_of("One. \n\n", repeats, &["Two"]), "Two");
            assert_eq!(shown_of("One.\n", repeats, &["\n\nTwo"]), "\nTwo", "more of it is new");
            assert_eq!(shown_of("\n\n", repeats, &["\n", "\nOne"]), "One");
            assert_eq!(shown_of("One\u{2003}", repeats, &["\u{2002}Two"]), "\u{2002}Two");
        }
        assert_eq!(shown_of("One two three \n", Repeats::Tail, &["two thr", "ee \nfour"]), "four");
    }

    #[test]
    fn what_is_held_back_is_bounded_and_given_back() {
        let long = "abcdefgh".repeat(WHOLE_BYTES_MAX / 8);
        let mut seam = Seam::new(&long, Repeats::Tail);
        assert_eq!(seam.push(&long[..WHOLE_BYTES_MAX - 8]), "");
        assert_eq!(seam.push("another"), [&long[1_024..WHOLE_BYTES_MAX - 8], "another"].concat());
        assert!(seam.is_over());
        let mut seam = Seam::new(&[&long, "x"].concat(), Repeats::Whole);
        assert!(seam.is_over() && seam.push("abc") == "abc", "too long to be compared");
        let mut seam = Seam::new("It was the third day", Repeats::Tail);
        assert_eq!(
            (seam.release().as_str(), seam.push("It was").as_str(), seam.release().as_str()),
            ("", "", "It was")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Few letters and much repetition, so that every kind of overlap comes about.
        #[test]
        fn any_cut_shows_what_the_definition_says(
            shown in "([ab]{0,3}[ é\n]){0,9}[ab]{0,4}[ \n]{0,2}",
            from in 0usize..40,
            more in "[ab é\n]{0,12}",
            cuts in proptest::collection::vec(1usize..6, 0..30),
            kind in 0usize..3,
        ) {
            let repeats = [Repeats::Nothing, Repeats::Whole, Repeats::Tail][kind];
            let again = &shown[shown.floor_char_boundary(from.min(shown.len()))..];
            for new in [[again, &more].concat(), [again.trim_end(), &more].concat(), more] {
                let mut pieces = Vec::new();
                let mut rest = new.as_str();
                for cut in &cuts {
                    let (piece, left) = rest.split_at(rest.ceil_char_boundary((*cut).min(rest.len())));
                    pieces.push(piece);
                    rest = left;
                }
                pieces.push(rest);
                prop_assert_eq!(shown_of(&shown, repeats, &pieces), defined(&shown, repeats, &new), "{:?} + {:?}", shown, new);
            }
        }
    }
}
