//! An answer before it is said: its sentences, and the call that follows them.

use super::{
    dice::Dice,
    prose::{CODAS, TAKE_UPS},
    script::{first_of, quote},
};

/// A planned answer, or what is left of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// What it says, each sentence with the white space after it.
    pub(super) sentences: Vec<String>,
    /// The city whose weather it then looks up.
    pub(super) lookup: Option<String>,
    /// Whether it is about the weather, and not a story.
    pub(super) about_weather: bool,
}

impl Answer {
    /// What it says.
    pub(super) fn text(&self) -> String {
        self.sentences.concat().trim_end().to_owned()
    }

    /// What is left of it to the byte, when `said` is how it begins: for an upstream that goes on in mid-word.
    pub(super) fn rest(&self, said: &str) -> Option<Self> {
        let rest = self.text().strip_prefix(said)?.to_owned();
        Some(Self { sentences: vec![rest], ..self.clone() })
    }

    /// The sentences of it that had not begun when it was cut after `said`. None when it was not cut: it was said to
    /// the end (which a `stop` text may have set), or it is not how this answer begins.
    pub(super) fn cut(&self, said: &str, stop: &[String]) -> Option<Self> {
        let said = said.trim_end();
        let text = self.text();
        let whole = text[..first_of(&text, stop).unwrap_or(text.len())].trim_end();
        if !text.starts_with(said) || (said == whole && self.lookup.is_none()) {
            return None;
        }
        let mut begins = 0;
        let unsaid = self.sentences.iter().filter(|sentence| {
            let at = begins;
            begins += sentence.len();
            at >= said.len()
        });
        Some(Self { sentences: unsaid.cloned().collect(), ..self.clone() })
    }

    /// It takes the words of a steer up and goes on, to an early end if these words ask for that.
    pub(super) fn steered(mut self, words: &str, dice: &mut Dice) -> Self {
        let mut sentences = vec![dice.pick(&TAKE_UPS).replace("{words}", &quote(words))];
        let mut rest = std::mem::take(&mut self.sentences);
        if wants_less(words) && rest.len() > 2 {
            rest.drain(1..rest.len() - 1);
        }
        if rest.is_empty() && self.lookup.is_none() {
            rest.push(dice.pick(&CODAS).to_owned());
        }
        sentences.extend(rest);
        Self { sentences, ..self }
    }
}

/// Whether a steer asks for fewer words.
fn wants_less(words: &str) -> bool {
    const LESS: [&str; 9] =
        ["short", "brief", "concise", "quick", "less", "fewer", "wrap it up", "plus court", "kürzer"];
    let words = words.to_lowercase();
    LESS.iter().any(|less| words.contains(less))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Answer {
        Answer { sentences: ["One é. ", "Two.\n\n", "Three. "].map(String::from).into(), ..Answer::default() }
    }

    #[test]
    fn a_cut_leaves_the_sentences_that_had_not_begun() {
        let left = |said| three().cut(said, &[]).map(|rest| rest.sentences.concat());
        assert_eq!(left("").as_deref(), Some("One é. Two.\n\nThree. "));
        assert_eq!(left("On").as_deref(), Some("Two.\n\nThree. "));
        assert_eq!(left("One é. ").as_deref(), Some("Two.\n\nThree. "));
        assert_eq!(left("One é. T").as_deref(), Some("Three. "));
        assert_eq!(left("One é. Two.\n\nThre").as_deref(), Some(""));
        assert_eq!(left("One é. Two.\n\nThree."), None, "it was said to the end");
        assert_eq!(left("Something else"), None, "another model said that");
        assert_eq!(three().cut("One é. Two.", &["Three".into()]), None, "it was stopped, not cut");
    }

    #[test]
    fn the_rest_is_exact_to_the_byte() {
        assert_eq!(three().rest("One é. Tw").unwrap().text(), "o.\n\nThree.");
        assert_eq!(three().rest("Two"), None);
    }

    #[test]
    fn a_steer_is_taken_up_and_may_shorten() {
        let dice = || Dice::new(0, 0, "");
        let steered = |words| three().steered(words, &mut dice()).sentences;
        assert!(steered("in\n French ")[0].contains("\"in French\""));
        assert_eq!(steered("in French").len(), 4);
        assert_eq!(steered("make it SHORTER").len(), 3);
        let ended = Answer::default().steered("more", &mut dice());
        assert_eq!(ended.sentences.len(), 2, "there is always something to say");
    }
}
