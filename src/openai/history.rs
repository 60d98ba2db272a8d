//! A conversation as it is put together: calls find their results, and none has the name of another.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;

use super::{InvalidRequest, Place};
use crate::{
    command::{InputCall, InputMessage},
    id::CallId,
    spec::clip,
};

/// Longest name of a tool that was called, in bytes: as a tool is declared. Other signs than a declaration has are fine.
pub(crate) const CALL_NAME_BYTES_MAX: usize = 64;
/// Longest call id, in bytes.
const ID_BYTES_MAX: usize = 256;

/// Messages, and the calls among them that wait for a result.
#[derive(Debug, Default)]
pub(crate) struct History {
    inputs: Vec<InputMessage>,
    /// By the id that the client gives; several may have one, for some upstreams count from 0 in every answer.
    open: HashMap<String, VecDeque<Slot>>,
    /// Calls that were cut off: nobody has to answer them.
    cut: HashMap<String, VecDeque<Option<Slot>>>,
    answered: HashSet<String>,
}

/// A call: which input, and which of its calls.
#[derive(Clone, Copy, Debug)]
struct Slot(usize, usize);

/// A call as it is read.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) call_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) arguments: Value,
}

/// Why a result has no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCall {
    /// No call has that id.
    Unknown,
    /// Every call of that id has its result.
    Answered,
}

/// Calls without a result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// The first message that has any.
    pub(crate) input: usize,
    /// Theirs, in order, of that message.
    pub(crate) call_ids: Vec<String>,
}

impl Call<'_> {
    /// Whether it can be in a conversation; `place` is where its id and its name stand.
    pub(crate) fn check(&self, id: &Place<'_>, name: &Place<'_>) -> Result<(), InvalidRequest> {
        if self.call_id.len() > ID_BYTES_MAX {
            return Err(InvalidRequest::value(id, format_args!("it is at most {ID_BYTES_MAX} bytes")));
        }
        if !(1..=CALL_NAME_BYTES_MAX).contains(&self.name.len()) {
            return Err(InvalidRequest::value(name, format_args!("it is 1 to {CALL_NAME_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

impl History {
    /// Adds a message, and gives its place.
    pub(crate) fn say(&mut self, message: InputMessage) -> usize {
        self.inputs.push(message);
        self.inputs.len() - 1
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    pub(crate) fn message(&mut self, input: usize) -> &mut InputMessage {
        &mut self.inputs[input]
    }

    /// Adds a call that has been checked to an answer; without an `end` it waits for one.
    pub(crate) fn call(&mut self, input: usize, call: Call<'_>, end: Option<Result<Value, String>>) {
        let waits = end.is_none();
        let slot = self.add(input, &call, end);
        if waits {
            self.open.entry(call.call_id.to_owned()).or_default().push_back(slot);
        }
    }

    /// The same of a call that was cut off, with its arguments if they can be read: without a result it never was.
    pub(crate) fn cut_call(&mut self, input: usize, call_id: &str, call: Option<Call<'_>>) {
        let slot = call.map(|call| self.add(input, &call, None));
        self.cut.entry(call_id.to_owned()).or_default().push_back(slot);
    }

    fn add(&mut self, input: usize, call: &Call<'_>, end: Option<Result<Value, String>>) -> Slot {
        // Some servers give no ids; the results then come in the order of the calls.
        let call_id = if call.call_id.is_empty() { "call" } else { call.call_id };
        let call_id = call_id.parse().unwrap_or_else(|_| shortened(call_id, 0));
        let (output, error) = match end {
            None => (None, None),
            Some(Ok(output)) => (Some(output), None),
            Some(Err(error)) => (None, Some(error)),
        };
        let calls = &mut self.inputs[input].calls;
        calls.push(InputCall { call_id, name: call.name.to_owned(), arguments: call.arguments.clone(), output, error });
        Slot(input, calls.len() - 1)
    }

    /// Gives a result to the first call of that id that has none.
    pub(crate) fn output(&mut self, call_id: &str, output: Value) -> Result<(), NoCall> {
        let open = self.open.get_mut(call_id).and_then(VecDeque::pop_front);
        let slot = open.map(Some).or_else(|| self.cut.get_mut(call_id)?.pop_front());
        match slot {
            Some(slot) => {
                if let Some(Slot(input, call)) = slot {
                    self.inputs[input].calls[call].output = Some(output);
                }
                self.answered.insert(call_id.to_owned());
                Ok(())
            }
            None if self.answered.contains(call_id) => Err(NoCall::Answered),
            None => Err(NoCall::Unknown),
        }
    }

    /// The messages, each call with an end and a name of its own.
    pub(crate) fn finish(mut self) -> Result<Vec<InputMessage>, Unanswered> {
        let waiting = self.open.values().flatten().map(|Slot(input, _)| *input).min();
        if let Some(input) = waiting {
            let mut slots: Vec<(usize, &String)> = Vec::new();
            for (call_id, open) in &self.open {
                slots.extend(open.iter().filter(|slot| slot.0 == input).map(|slot| (slot.1, call_id)));
            }
            slots.sort_unstable();
            return Err(Unanswered { input, call_ids: slots.into_iter().map(|(_, id)| id.clone()).collect() });
        }
        for input in &mut self.inputs {
            input.calls.retain(|call| call.output.is_some() || call.error.is_some());
        }
        name_apart(&mut self.inputs);
        Ok(self.inputs)
    }
}

/// Gives every call a name of its own; the first of a name keeps it.
fn name_apart(inputs: &mut [InputMessage]) {
    let calls = || inputs.iter().flat_map(|input| &input.calls);
    let mut taken: HashSet<CallId> = HashSet::new();
    if calls().all(|call| taken.insert(call.call_id.clone())) {
        return;
    }
    taken.extend(calls().map(|call| call.call_id.clone()));
    let mut met = HashSet::new();
    // By what the new names begin with, so that however many are alike, each number is tried once.
    let mut next: HashMap<String, u32> = HashMap::new();
    for call in inputs.iter_mut().flat_map(|input| &mut input.calls) {
        if met.insert(call.call_id.clone()) {
            continue;
        }
        let number = next.entry(beginning(call.call_id.as_str()).to_owned()).or_insert(1);
        call.call_id = loop {
            *number += 1;
            let name = shortened(call.call_id.as_str(), *number);
            if taken.insert(name.clone()) {
                break name;
            }
        };
    }
}

/// As much of an id as leaves room for a number.
fn beginning(id: &str) -> &str {
    clip(id, ID_BYTES_MAX - "_4294967295".len())
}

fn shortened(id: &str, number: u32) -> CallId {
    format!("{}_{number}", beginning(id)).parse().expect("1 to 256 bytes by construction")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::Role;

    fn call(call_id: &str) -> Call<'_> {
        Call { call_id, name: "f", arguments: json!({}) }
    }

    fn answer(history: &mut History, ids: &[&str]) {
        let input = history.say(InputMessage::text(Role::Assistant, ""));
        ids.iter().for_each(|id| history.call(input, call(id), None));
    }

    fn named(inputs: &[InputMessage]) -> Vec<(String, Option<Value>)> {
        let calls = inputs.iter().flat_map(|input| &input.calls);
        calls.map(|call| (call.call_id.to_string(), call.output.clone())).collect()
    }

    #[test]
    fn calls_of_one_id_get_their_results_in_order_and_names_of_their_own() {
        let mut history = History::default();
        answer(&mut history, &["call_0", "call_1"]);
        history.output("call_1", json!("b")).unwrap();
        history.output("call_0", json!("a")).unwrap();
        answer(&mut history, &["call_0", "call_0_2"]);
        answer(&mut history, &["call_0"]);
        for (id, output) in [("call_0", "c"), ("call_0_2", "d"), ("call_0", "e")] {
            history.output(id, json!(output)).unwrap();
        }
        let named = named(&history.finish().unwrap());
        let expected = [("call_0", "a"), ("call_1", "b"), ("call_0_3", "c"), ("call_0_2", "d"), ("call_0_4", "e")];
        assert_eq!(named, expected.map(|(id, output)| (id.to_owned(), Some(json!(output)))));
    }

    #[test]
    fn a_result_has_one_call_and_a_call_one_result() {
        let mut history = History::default();
        assert_eq!(history.output("a", json!(1)), Err(NoCall::Unknown));
        answer(&mut history, &["a"]);
        assert_eq!(history.output("b", json!(1)), Err(NoCall::Unknown));
        assert_eq!(history.output("a", json!(1)), Ok(()));
        assert_eq!(history.output("a", json!(2)), Err(NoCall::Answered));
        answer(&mut history, &["z", "c", "b"]);
        answer(&mut history, &["y"]);
        history.output("c", json!(3)).unwrap();
        let open = Unanswered { input: 1, call_ids: vec!["z".into(), "b".into()] };
        assert_eq!(history.finish(), Err(open));
    }

    #[test]
    fn what_was_cut_off_never_was_unless_it_was_answered() {
        let mut history = History::default();
        let input = history.say(InputMessage::text(Role::Assistant, "I shall"));
        history.cut_call(input, "a", Some(call("a")));
        history.cut_call(input, "b", Some(call("b")));
        history.cut_call(input, "c", None);
        answer(&mut history, &["a"]);
        history.output("a", json!("of the whole one")).unwrap();
        history.output("b", json!("of the cut one")).unwrap();
        history.output("c", json!("of one that cannot be read")).unwrap();
        assert_eq!(history.output("c", json!(1)), Err(NoCall::Answered));
        let inputs = history.finish().unwrap();
        let expected = [("b", "of the cut one"), ("a", "of the whole one")];
        assert_eq!(named(&inputs), expected.map(|(id, output)| (id.to_owned(), Some(json!(output)))));
        assert_eq!(InputMessage::check(&inputs), Ok(()));
    }

    #[test]
    fn names_fit_however_long_and_however_many_are_alike() {
        let long = ["ä".repeat(128), format!("{}x", "ä".repeat(127)), format!("{}y", "ä".repeat(127))];
        let mut history = History::default();
        for _ in 0..2_000 {
            answer(&mut history, &[&long[0], &long[1], &long[2], ""]);
            long.iter().map(String::as_str).chain([""]).for_each(|id| history.output(id, json!(id)).unwrap());
        }
        let inputs = history.finish().unwrap();
        assert_eq!(InputMessage::check(&inputs), Ok(()));
        assert_eq!(inputs.iter().map(|input| input.calls.len()).sum::<usize>(), 8_000);
    }

    #[test]
    fn an_id_or_a_name_that_cannot_be_kept_is_refused() {
        let (id, name) = (Place::Top("id"), Place::Top("name"));
        let check = |call_id: &str, name_given: &str| {
            let call = Call { call_id, name: name_given, arguments: json!({}) };
            call.check(&id, &name).map_err(|no| no.param.unwrap())
        };
        assert_eq!(check("", "my.tool of old"), Ok(()));
        assert_eq!(check(&"x".repeat(256), &"n".repeat(64)), Ok(()));
        assert_eq!(check(&"x".repeat(257), "f"), Err("id".into()));
        assert_eq!(check("a", ""), Err("name".into()));
        assert_eq!(check("a", &"n".repeat(65)), Err("name".into()));
    }
}
