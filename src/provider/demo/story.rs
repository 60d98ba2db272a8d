//! A story: one wording of each beat, one name for each thing.

use super::{
    answer::Answer,
    dice::Dice,
    prose::{BEATS, HEROES, PORTS, SHIPS, THINGS},
};

/// Whether a text asks for one.
pub(super) fn is_asked_for(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("story") || text.contains("tale")
}

/// The story that `dice` choose.
pub(super) fn tell(dice: &mut Dice) -> Answer {
    let (hero, ship) = (dice.pick(&HEROES), dice.pick(&SHIPS));
    let (port, thing) = (dice.pick(&PORTS), dice.pick(&THINGS));
    let sentences = BEATS.iter().map(|wordings| {
        let beat = dice.pick(wordings).replace("{hero}", hero).replace("{ship}", ship);
        beat.replace("{port}", port).replace("{thing}", thing)
    });
    Answer { sentences: sentences.collect(), lookup: None, about_weather: false }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::time::Instant;

    use super::super::testing::{ask, prompt, tell, with};
    use super::*;
    use crate::event::FinishReason;

    #[test]
    fn every_story_has_its_length_and_its_many_byte_characters() {
        let mut all = HashSet::new();
        let mut total = 0;
        for seed in 0..200 {
            let text = super::tell(&mut Dice::new(seed, 0, "")).text();
            let words = text.split_whitespace().count();
            assert!((220..=300).contains(&words), "{words} words: {text}");
            total += words;
            for character in ['é', '—', '…', '🚢'] {
                assert!(text.contains(character), "{character} in {text}");
            }
            assert!(text.chars().any(|c| matches!(c, 'а'..='я' | '一'..='龥')), "{text}");
            assert!(!text.contains(['{', '}']) && text.trim() == text, "{text}");
            all.insert(text);
        }
        assert_eq!(all.len(), 200);
        assert!((240..=275).contains(&(total / 200)), "{} words on average", total / 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_story_is_the_same_for_the_same_seed_and_prompt_only() {
        let seeded = |seed| tell(with(prompt("story", "Tell me a story"), |p| p.seed = Some(seed)));
        assert_eq!(seeded(7).await.deltas, seeded(7).await.deltas);
        assert_ne!(seeded(7).await.text, seeded(8).await.text);
        assert_ne!(ask("story", "A story").await.text, ask("story", "Another story").await.text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_story_takes_its_time_at_thirty_tokens_a_second() {
        let started = Instant::now();
        let answer = ask("story", "Tell me a story").await;
        let seconds = started.elapsed().as_secs_f64();
        let rate = answer.usage().output_tokens.unwrap() as f64 / seconds;
        assert!(seconds >= 5.0 && (rate - 30.0).abs() < 0.5, "{seconds} s, {rate} tokens/s");
        assert_eq!(answer.finish_reason(), FinishReason::Stop);
    }
}
