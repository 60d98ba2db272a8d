//! The city that a question is about: what stands after "in" or "for".

use crate::spec::clip;

/// Words after "in" or "for" that begin no city.
const NOT_A_CITY: &str = "a an the this that my our your me us you it which what now today tonight tomorrow next general \
    short one two three celsius fahrenheit kelvin degrees monday tuesday wednesday thursday friday saturday sunday \
    spring summer autumn winter english french german spanish italian portuguese dutch russian ukrainian polish turkish \
    arabic hebrew hindi chinese japanese korean verse prose";

/// Words that are only the beginning of a name, for names written small.
const HALF_A_NAME: &str = "new san santa los las são sao saint st cape hong buenos kuala tel";

/// Small words within a name, as in Rio de Janeiro.
const WITHIN_A_NAME: &str = "de da del am of upon";

/// Longest name, in bytes.
const CITY_BYTES_MAX: usize = 80;

/// The first city that `text` names.
pub(super) fn find(text: &str) -> Option<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    (1..words.len()).find_map(|at| {
        let before = words[at - 1].to_lowercase();
        (before == "in" || before == "for").then(|| name(&words[at..])).flatten()
    })
}

/// The name that `words` begin with.
fn name(words: &[&str]) -> Option<String> {
    let first = bare(words[0]);
    if first.is_empty() || listed(NOT_A_CITY, first) {
        return None;
    }
    let small = first.starts_with(char::is_lowercase);
    let mut parts = vec![first];
    for at in 1..words.len() {
        // Punctuation ends a name; "St. Petersburg" is worth an exception.
        if words[at - 1].ends_with([',', ';', ':', '?', '!', ')']) || (words[at - 1].ends_with('.') && parts[0] != "St")
        {
            break;
        }
        let part = bare(words[at]);
        let capital = |word: &str| word.starts_with(char::is_uppercase);
        let within = listed(WITHIN_A_NAME, part) && words.get(at + 1).is_some_and(|next| capital(bare(next)));
        let goes_on = match small {
            true => at == 1 && listed(HALF_A_NAME, first),
            false => (capital(part) && !listed(NOT_A_CITY, part)) || within,
        };
        if part.is_empty() || !goes_on {
            break;
        }
        parts.push(part);
    }
    let name = if small { parts.into_iter().map(capitalised).collect::<Vec<_>>().join(" ") } else { parts.join(" ") };
    Some(clip(&name, CITY_BYTES_MAX).trim_end().to_owned())
}

fn listed(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word.to_lowercase())
}

/// A word without the punctuation around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn cities_are_found_where_people_put_them() {
        for (text, city) in [
            ("What's the weather in Paris?", Some("Paris")),
            ("weather in paris today please", Some("Paris")),
            ("Weather for Rio de Janeiro, in French", Some("Rio de Janeiro")),
            ("the forecast for tomorrow in New York, please", Some("New York")),
            ("temperature in celsius for new york now", Some("New York")),
            ("Will the weather hold in St. John's on Monday", Some("St John's")),
            ("Weather in São Paulo Tomorrow", Some("São Paulo")),
            ("the weather in 東京", Some("東京")),
            ("WEATHER IN \"Oslo\"!", Some("Oslo")),
            ("shorter, in French", None),
            ("the weather in", None),
            ("the weather in …", None),
            ("what is the weather", None),
        ] {
            assert_eq!(find(text).as_deref(), city, "{text}");
        }
        assert!(find(&format!("weather in {}", "é".repeat(10_000))).unwrap().len() <= 80);
    }
}
