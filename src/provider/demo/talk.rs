//! A talk: the models that answer from the whole conversation, `assistant`, `story` and `tools`.
//!
//! The prompt does not say which answers were cut. It need not: an answer follows from what stands before it, so the
//! talk is gone through again from its beginning, and where less was said than was planned, there was a cut.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    WEATHER_TOOL,
    answer::Answer,
    city,
    dice::Dice,
    script::{Line, Script, call},
    story,
    weather::{self, Lookup},
};
use crate::{
    event::ToolFailure,
    id::CallId,
    provider::{Message, Prompt},
};

/// What comes next in the talk.
pub(super) fn script(prompt: &Prompt) -> Script {
    let mut talk = Talk::new(prompt);
    for (place, message) in prompt.messages.iter().enumerate() {
        talk.hear(place, message);
    }
    let next = talk.next();
    let mut lines = vec![Line::Text(next.text())];
    if let Some(city) = next.lookup {
        let id = talk.dice(prompt.messages.len(), &city).roll();
        lines.push(call(0, id, WEATHER_TOOL, &json!({ "city": city })));
    }
    Script::new(lines)
}

struct Talk<'a> {
    prompt: &'a Prompt,
    /// What the model was or is to say.
    planned: Option<Answer>,
    /// What it has said of that.
    said: String,
    /// Arguments of every call so far.
    calls: HashMap<&'a CallId, &'a Value>,
    /// The calls that have ended since the model last spoke.
    lookups: Vec<Lookup<'a>>,
}

impl<'a> Talk<'a> {
    fn new(prompt: &'a Prompt) -> Self {
        Self { prompt, planned: None, said: String::new(), calls: HashMap::new(), lookups: Vec::new() }
    }

    fn hear(&mut self, place: usize, message: &'a Message) {
        match message {
            Message::System(_) => {}
            Message::User(text) => {
                self.planned = Some(self.reply(place, text));
                self.said.clear();
                self.lookups.clear();
            }
            Message::Assistant { text, calls, .. } => {
                self.said.push_str(text);
                self.lookups.clear();
                self.calls.extend(calls.iter().map(|call| (&call.call_id, &call.arguments)));
                if let Some(planned) = self.planned.as_mut().filter(|_| !calls.is_empty()) {
                    planned.lookup = None;
                }
            }
            Message::Tool { call_id, name, outcome, edited_arguments } => {
                let arguments = self.calls.get(call_id).copied();
                self.lookups.push(Lookup { name, arguments, edited: edited_arguments.as_ref(), outcome });
                self.planned = Some(weather::tell(&self.lookups));
                self.said.clear();
            }
        }
    }

    /// The answer to a user message: a lookup, the rest of an answer that it cut, or a new story.
    fn reply(&self, place: usize, text: &str) -> Answer {
        let cut = self.planned.as_ref().and_then(|planned| planned.cut(&self.said, &self.prompt.params.stop));
        // A steer waits for an open call to end. Where every call was interrupted, the run was cancelled instead.
        let interrupted = |lookup: &Lookup<'_>| lookup.failure() == Some(ToolFailure::Interrupted);
        let cancelled = !self.lookups.is_empty() && self.lookups.iter().all(interrupted);
        let changes_topic = |cut: &Answer| cut.about_weather && story::is_asked_for(text);
        let cut = cut.filter(|cut| !cancelled && !changes_topic(cut));
        let asks = match self.prompt.model.as_str() {
            "tools" => true,
            "assistant" => weather::is_asked_for(text),
            _ => false,
        };
        let mut dice = self.dice(place, text);
        match cut {
            cut if asks => {
                let city = city::find(text).or_else(|| cut?.lookup);
                weather::look_up(city.unwrap_or_else(|| weather::DEFAULT_CITY.into()))
            }
            Some(mut rest) => {
                // "No, in Oslo" to a lookup that has not been made.
                rest.lookup = rest.lookup.map(|city| city::find(text).unwrap_or(city));
                rest.steered(text, &mut dice)
            }
            None => story::tell(&mut dice),
        }
    }

    /// What is to be said now. After words of the model (a step that is taken up again) only what they lack.
    fn next(&mut self) -> Answer {
        let planned = self.planned.take();
        let place = self.prompt.messages.len();
        planned.and_then(|planned| planned.rest(&self.said)).unwrap_or_else(|| story::tell(&mut self.dice(place, "")))
    }

    fn dice(&self, place: usize, text: &str) -> Dice {
        Dice::new(self.prompt.params.seed.unwrap_or(0), place, text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ask, assistant, called, converse, failed, tool, user};
    use super::*;
    use crate::event::FinishReason;

    fn sentences(text: &str) -> Vec<&str> {
        text.split_inclusive(". ").map(str::trim).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_steered_story_takes_the_words_up_and_repeats_nothing() {
        for model in ["story", "assistant"] {
            let whole = ask(model, "Go").await.text;
            let (cut, _) = whole.char_indices().nth(whole.chars().count() / 3).unwrap();
            let said = &whole[..cut];
            let talk = |steer| vec![user("Go"), assistant(said), user(steer)];
            let more = converse(model, talk("in verse, with a dog")).await.text;
            assert!(sentences(&more)[0].contains("\"in verse, with a dog\""), "{more}");
            let goes_on = more.split_once(". ").unwrap().1;
            assert!(whole[cut..].ends_with(goes_on), "{more}");
            assert!(whole.len() - cut - goes_on.len() < 130, "only the sentence that was cut is left out: {more}");

            let less = converse(model, talk("shorter, in French")).await.text;
            assert!(less.contains("\"shorter, in French\"") && less.len() < more.len() / 2, "{less}");
            assert!(whole.ends_with(less.rsplit_once('\n').map_or(&less[less.len() - 20..], |l| l.1)), "{less}");

            // Steered again, from a cut in what the first steer made of it.
            let said_more =
                &more[..more.len() / 2 + (0..4).find(|n| more.is_char_boundary(more.len() / 2 + n)).unwrap()];
            let again = [talk("in verse, with a dog"), vec![assistant(said_more), user("and a cat")]].concat();
            let again = converse(model, again).await.text;
            assert!(again.contains("\"and a cat\"") && !again.contains("a dog"), "{again}");
            assert!(more.ends_with(again.split_once(". ").unwrap().1), "{again}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_steer_before_the_first_token_is_taken_up_too() {
        let story = converse("story", vec![user("Go"), user("with a dog")]).await.text;
        assert!(story.contains("\"with a dog\"") && story.len() > 1_000, "{story}");
        let empty = converse("story", vec![user("Go"), assistant(""), user("with a dog")]).await.text;
        assert!(empty.contains("\"with a dog\"") && empty.len() > 1_000, "{empty}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_finished_story_is_followed_by_another_and_a_broken_one_by_its_rest() {
        let first = ask("story", "Go").await.text;
        let second = converse("story", vec![user("Go"), assistant(&first), user("Go")]).await.text;
        assert!(second.len() > 1_000 && !second.contains("\"Go\"") && first != second, "{second}");
        let (said, rest) = first.split_at(first.find('—').unwrap());
        assert_eq!(converse("story", vec![user("Go"), assistant(said)]).await.text, rest);
    }

    #[tokio::test(start_paused = true)]
    async fn the_weather_is_looked_up_and_told() {
        let answer = ask("assistant", "What's the Weather in Oslo?").await;
        assert_eq!((answer.text.as_str(), answer.finish_reason()), ("Let me look that up.", FinishReason::ToolCalls));
        assert_eq!(answer.calls[0].0, "get_weather");
        assert_eq!(answer.calls[0].1, json!({"city": "Oslo"}).to_string());
        assert!(answer.fragments > 1, "arguments come in pieces");
        let question = || vec![user("What's the weather in Oslo?"), called("Oslo")];
        let sunny = tool(json!({"city": "Oslo", "temperature_c": 21, "conditions": "clear sky"}));
        let told = converse("assistant", [question(), vec![sunny.clone()]].concat()).await;
        assert!(told.text.starts_with("In Oslo it is 21 °C"), "{}", told.text);
        assert_eq!((told.calls.len(), told.finish_reason()), (0, FinishReason::Stop));
        let after = |code| converse("tools", [question(), vec![failed(code)]].concat());
        assert!(after(ToolFailure::DeniedByUser).await.text.contains("refused"));
        assert!(after(ToolFailure::ApprovalTimedOut).await.text.contains("nobody answered"));

        // A steer in the middle of the answer is no new question, unless it asks one.
        let steered = |words: &str| {
            let cut = assistant(&told.text[..told.text.len() / 3]);
            converse("assistant", [question(), vec![sunny.clone(), cut, user(words)]].concat())
        };
        let answer = steered("more gently").await;
        assert!(answer.calls.is_empty() && answer.text.contains("\"more gently\""), "{}", answer.text);
        assert_eq!(steered("and the weather in Rome").await.calls[0].1, json!({"city": "Rome"}).to_string());
        // So is a steer that waited for the tool: it gets the answer, in its own words.
        let waited = converse("assistant", [question(), vec![sunny, user("in French")]].concat()).await;
        assert!(waited.text.contains("\"in French\"") && waited.text.contains("21 °C"), "{}", waited.text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_was_cut_is_made_after_the_steer() {
        let steered = |words| converse("assistant", vec![user("weather in Oslo"), assistant("Let me "), user(words)]);
        assert_eq!(steered("shorter, in French").await.calls[0].1, json!({"city": "Oslo"}).to_string());
        assert_eq!(steered("no, in Rome").await.calls[0].1, json!({"city": "Rome"}).to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_question_after_a_cancelled_lookup_is_no_steer() {
        let weather = || vec![user("weather in Oslo")];
        let interrupted = vec![called("Oslo"), failed(ToolFailure::Interrupted)];
        for (before, next) in [(Vec::new(), "Tell me a story"), (interrupted, "Hello")] {
            let answer = converse("assistant", [weather(), before, vec![user(next)]].concat()).await;
            assert!(answer.calls.is_empty() && answer.text.len() > 1_000, "{}", answer.text);
            assert!(!answer.text.contains(&format!("\"{next}\"")), "{}", answer.text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tools_calls_for_every_user_message_and_assistant_only_when_asked() {
        let talk = || vec![user("hello"), called("Lisbon"), tool(json!("fine")), assistant("Fine."), user("thanks")];
        let answer = converse("tools", talk()).await;
        assert_eq!(answer.calls[0].1, json!({"city": "Lisbon"}).to_string());
        assert!(converse("assistant", talk()).await.calls.is_empty());
        assert!(!converse("assistant", vec![]).await.text.is_empty(), "nothing was asked, so a story is told");
    }
}
