//! Thinking aloud, then an answer.

use super::{
    dice::Dice,
    last_user_text,
    script::{Line, Script, quote},
};
use crate::provider::Prompt;

/// Thoughts, about 40 words; `{words}` are the question, in quotes.
const THOUGHTS: [&str; 3] = [
    "The question is {words}. First, what is being asked? Second, what do I know about it? As a demo, nothing at all. \
     Third, what would still be useful to say? How the answer came about — that I can tell truthfully.",
    "Let me take {words} apart. There are words in it, and I can count them; there is a meaning, and I cannot reach \
     it. So the honest course is a plain one… say what I am, and show what thinking looks like on the way.",
    "Someone wants to know about {words}. I could pretend to be wise, but rules wrote me, not years. Better to think in \
     the open — one step, another step, a conclusion — so that whoever watches sees each of them arrive.",
];

/// Answers, about 60 words.
const ANSWERS: [&str; 3] = [
    "You asked about {words}. I am a demonstration without a mind of my own, so I have no opinion to give you. What you \
     have just seen is the useful part: the thinking came first, in a block of its own, and the answer came after it. \
     A client may show the one, fold it away, or leave it out, and still have the other whole.",
    "As to {words}: the sea keeps its own counsel, and so must I, for nothing here was made by a language model. But \
     the course was a fair one. I looked at the question, saw how little I could say — and then said exactly that. A \
     real model will have more to tell you, in the same two blocks, and in the same order.",
    "On {words} I can offer no more than a good example. First came the reasoning, which you may read or ignore; then \
     these sentences, which are the answer proper. Both were streamed at the same pace, and both can be cut, resumed \
     and replayed to the letter. If that was your question after all… then I have answered it, and gladly.",
];

/// Thoughts about the last user message, then the answer.
pub(super) fn script(prompt: &Prompt) -> Script {
    let text = last_user_text(prompt);
    let mut dice = Dice::new(prompt.params.seed.unwrap_or(0), prompt.messages.len(), text);
    let question = quote(text);
    let mut say = |choices: &[&str]| dice.pick(choices).replace("{words}", &question);
    Script::new(vec![Line::Reasoning(say(&THOUGHTS)), Line::Text(say(&ANSWERS))])
}

#[cfg(test)]
mod tests {
    use super::super::testing::ask;

    #[tokio::test(start_paused = true)]
    async fn it_thinks_about_the_question_and_then_answers() {
        for question in ["Why is the sea salt?", "why", "{words}"] {
            let answer = ask("reasoning", question).await;
            let words = |text: &str| text.split_whitespace().count() - question.split_whitespace().count();
            assert!(answer.reasoning.contains(question) && answer.text.contains(question));
            assert!((32..=46).contains(&words(&answer.reasoning)), "{}", answer.reasoning);
            assert!((54..=68).contains(&words(&answer.text)), "{}", answer.text);
            assert!(answer.usage().reasoning_tokens.unwrap() < answer.usage().output_tokens.unwrap());
        }
    }
}
