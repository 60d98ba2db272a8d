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
