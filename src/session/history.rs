//! A client's idea of the conversation beside the log: what leaves the model's context, what is added, what is merely
//! told.
//!
//! The log stays the truth. A message leaves the context only where a client shows that it went back: it names a message
//! that is here and stops there, or it says an input anew. A client that knows less (a fresh page, a window of the last
//! ten messages) takes nothing away, and one that says something else about what is here changes nothing. Every
//! difference is an event.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    conversation::Message,
    state::{Out, State},
};
use crate::{
    command::{Reason, Regenerate, Said, Send},
    env::Millis,
    event::Event,
    id::{CommandId, MessageId, RunId},
    spec::Role,
};

/// Names in one `history.diverged`: enough to see what is amiss, and the event stays small.
const IGNORED_MAX: usize = 100;

/// What becomes of the conversation before the next run.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Revision {
    /// Leave the model's context.
    rewound: Vec<MessageId>,
    /// Are added, in order.
    added: Vec<Said>,
    /// The client's messages that are not here, or say something else here.
    ignored: Vec<MessageId>,
    /// Messages here that the client does not have, before its last.
    absent: u32,
    /// Places of the shown messages that the client has; `None` where it sent no history.
    has: Option<HashSet<usize>>,
}

/// The messages of the conversation as a chat shows them: an input, or a whole run with what was steered into it.
struct Shown<'a> {
    run_id: Option<&'a RunId>,
    messages: Vec<&'a Message>,
}

impl Shown<'_> {
    fn is(&self, id: &MessageId) -> bool {
        self.run_id.is_some_and(|run_id| run_id.as_str() == id.as_str())
            || self.messages.iter().any(|message| message.message_id == *id)
    }

    fn is_input(&self) -> bool {
        self.run_id.is_none()
    }

    fn role(&self) -> Role {
        if self.is_input() { self.messages[0].role } else { Role::Assistant }
    }

    fn text(&self) -> String {
        let own = self.messages.iter().filter(|message| message.role == self.role());
        own.map(|message| message.text()).collect()
    }

    /// Whether the client's copy says the same, or is an answer that it has not seen the end of.
    fn agrees_with(&self, said: &Said) -> bool {
        let text = self.text();
        let same = match self.is_input() {
            true => text == said.content,
            false => text.starts_with(&said.content),
        };
        same && self.role() == said.role
    }
}

impl State {
    fn shown(&self) -> Vec<Shown<'_>> {
        let mut shown: Vec<Shown<'_>> = Vec::new();
        for message in self.fold.conversation.messages.iter().filter(|message| !message.rolled_back) {
            match shown.last_mut() {
                Some(last) if last.run_id.is_some() && last.run_id == message.run_id.as_ref() => {
                    last.messages.push(message);
                }
                _ => shown.push(Shown { run_id: message.run_id.as_ref(), messages: vec![message] }),
            }
        }
        shown
    }

    /// What a send does to the conversation that it is said in, or why it is not said.
    pub(super) fn revision_of_send(&self, send: &Send) -> Result<Revision, Reason> {
        let shown = self.shown();
        let anew = send.replaces.is_some() && send.replaces == send.message_id;
        let replaced = send.replaces.as_ref().and_then(|id| shown.iter().position(|s| s.is_input() && s.is(id)));
        if send.replaces.is_some() && replaced.is_none() && !anew {
            return Err(Reason::UnknownMessage);
        }
        if send.message_id.as_ref().is_some_and(|id| self.fold.conversation.had(id)) && !anew {
            return Err(Reason::AlreadySaid);
        }
        let mut revision = Revision::default();
        let after_last = send.history.as_deref().and_then(|history| revision.compare(&shown, history));
        let stay = replaced.into_iter().chain(after_last).min().unwrap_or(shown.len());
        revision.keep(&shown, stay);
        Ok(revision)
    }

    /// What a regenerate does, or why there is nothing to be answered again.
    pub(super) fn revision_of_regenerate(&self, regenerate: &Regenerate) -> Result<Revision, Reason> {
        let shown = self.shown();
        let mut revision = Revision::default();
        // Without a name: up to the newest input.
        let newest = || shown.iter().rposition(Shown::is_input).map(|at| at + 1);
        let stay = match (&regenerate.message_id, &regenerate.history) {
            // An answer that has been given again already: the request is a late one.
            (Some(id), Some(_)) if self.has_left(id) => return Err(Reason::UnknownMessage),
            (Some(id), None) => {
                let at = shown.iter().position(|shown| shown.is(id)).ok_or(Reason::UnknownMessage)?;
                Some(if shown[at].role() == Role::Assistant { at } else { at + 1 })
            }
            (_, Some(history)) => {
                let stay = revision.compare(&shown, history).or_else(newest);
                // A question that the client has changed is asked as it is now.
                let changed = history.last().zip(stay).filter(|(asked, stay)| {
                    let here = stay.checked_sub(1).map(|at| &shown[at]);
                    here.is_some_and(|here| here.is_input() && here.is(&asked.message_id) && !here.agrees_with(asked))
                });
                match changed {
                    Some((asked, stay)) => {
                        revision.ignored.retain(|id| *id != asked.message_id);
                        revision.added.push(asked.clone());
                        Some(stay - 1)
                    }
                    None => stay,
                }
            }
            (None, None) => newest(),
        };
        let stay = stay.unwrap_or(0);
        let asked = match revision.added.last() {
            Some(said) => said.role == Role::User,
            None => shown[..stay].last().is_some_and(|last| last.role() == Role::User),
        };
        if !asked {
            return Err(Reason::UnknownMessage);
        }
        revision.keep(&shown, stay);
        Ok(revision)
    }

    /// Whether a message or a run of that name was in the context and is no longer.
    fn has_left(&self, id: &MessageId) -> bool {
        let is_it = |message: &&Message| {
            message.message_id == *id || message.run_id.as_ref().is_some_and(|run| run.as_str() == id.as_str())
        };
        let newest = self.fold.conversation.messages.iter().rev().find(is_it);
        newest.is_some_and(|message| message.rolled_back)
    }

    /// Does it, and says so.
    pub(super) fn revise(&mut self, revision: Revision, command_id: &CommandId, now: Millis, out: &mut Out) {
        let Revision { rewound, added, mut ignored, absent, .. } = revision;
        ignored.truncate(IGNORED_MAX);
        if !rewound.is_empty() {
            self.emit(Event::HistoryRewound { message_ids: rewound, command_id: command_id.clone() }, now, out);
        }
        if !ignored.is_empty() || absent > 0 {
            self.emit(Event::HistoryDiverged { ignored, absent, command_id: command_id.clone() }, now, out);
        }
        for Said { message_id, role, content } in added {
            self.add_input(Some(message_id), role, content, Some(command_id.clone()), now, out);
        }
    }
}

impl Revision {
    /// Compares; gives how many of the shown messages stay, where the client shows where it is.
    fn compare(&mut self, shown: &[Shown<'_>], history: &[Said]) -> Option<usize> {
        let places = places(shown, history);
        let known = places.iter().rposition(Option::is_some).map_or(0, |at| at + 1);
        for (said, place) in history.iter().zip(&places[..known]) {
            // Of an answer that was stopped before it said anything there is no message here, and nothing is amiss.
            if place.map_or_else(|| !says_nothing(said), |at| !shown[at].agrees_with(said)) {
                self.ignored.push(said.message_id.clone());
            }
        }
        for said in history[known..].iter().filter(|said| !says_nothing(said)) {
            match said.content.trim().is_empty() {
                true => self.ignored.push(said.message_id.clone()),
                false => self.added.push(said.clone()),
            }
        }
        let has: HashSet<usize> = places.into_iter().flatten().collect();
        let stay = has.iter().max().map(|at| at + 1);
        self.has = Some(has);
        stay
    }

    /// The first `stay` of the shown messages stay; counts those of them that the client does not have.
    fn keep(&mut self, shown: &[Shown<'_>], stay: usize) {
        let messages = shown[stay..].iter().flat_map(|shown| &shown.messages);
        self.rewound = messages.map(|message| message.message_id.clone()).collect();
        let absent = self.has.as_ref().map_or(0, |has| (0..stay).filter(|at| !has.contains(at)).count());
        self.absent = u32::try_from(absent).unwrap_or(u32::MAX);
    }
}

/// Which of the shown messages each message of a history is: by name, or else the next one that says the same. An
/// application may keep its messages under names of its own.
fn places(shown: &[Shown<'_>], history: &[Said]) -> Vec<Option<usize>> {
    let by_name: HashMap<&str, usize> = shown.iter().enumerate().flat_map(|(at, s)| names(s, at)).collect();
    let named = |said: &Said| by_name.get(said.message_id.as_str()).copied();
    if history.iter().all(|said| named(said).is_some()) {
        return history.iter().map(named).collect();
    }
    // Looked up and not searched for: both sides may be long, and this is done between two tokens of other sessions.
    let taken: HashSet<usize> = history.iter().filter_map(named).collect();
    let texts: Vec<String> = shown.iter().map(Shown::text).collect();
    let mut alike: HashMap<(Role, &str), VecDeque<usize>> = HashMap::new();
    for at in (0..shown.len()).filter(|at| !taken.contains(at)) {
        alike.entry((shown[at].role(), texts[at].as_str())).or_default().push_back(at);
    }
    let mut places = Vec::with_capacity(history.len());
    let mut next = 0;
    for said in history {
        // An answer that the client has not seen the end of is known where it stands.
        let cut = shown.get(next).is_some_and(|here| {
            !here.is_input()
                && said.role == Role::Assistant
                && !taken.contains(&next)
                && texts[next].starts_with(&said.content)
        });
        let mut same = alike.get_mut(&(said.role, said.content.as_str()));
        if let Some(same) = &mut same {
            while same.front().is_some_and(|at| *at < next) {
                same.pop_front();
            }
        }
        let place = match named(said) {
            None if said.content.trim().is_empty() => None,
            None if cut => Some(next),
            None => same.and_then(|same| same.front().copied()),
            named => named,
        };
        next = place.map_or(next, |at| at + 1);
        places.push(place);
    }
    places
}

/// Whether it is an answer without a word.
fn says_nothing(said: &Said) -> bool {
    said.role == Role::Assistant && said.content.trim().is_empty()
}

/// Everything that a shown message may be called.
fn names<'a>(shown: &Shown<'a>, at: usize) -> impl Iterator<Item = (&'a str, usize)> + use<'a> {
    let ids = shown.messages.clone().into_iter().map(|message| message.message_id.as_str());
    shown.run_id.map(RunId::as_str).into_iter().chain(ids).map(move |id| (id, at))
}
