//! Which tool call a piece belongs to.
//!
//! By the book every piece has the `index` of its call, and the first one its `id` and name. In the field indexes are
//! missing, jump, or are 0 for every call; ids are missing or come again; names are repeated.

use super::wire::CallPiece;
use crate::{
    event::FailureCode,
    provider::{Delta, ProviderError},
};

/// Calls that one answer may have: finding a call is linear in their number, and no person approves so many.
const CALLS_MAX: usize = 128;

/// The calls of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Open>);

#[derive(Debug)]
struct Open {
    /// The upstream's number; ours is the position.
    index: Option<u64>,
    id: Option<String>,
    /// Empty until the upstream has said it; until then the arguments wait in `held`.
    name: String,
    held: String,
    arguments: Completeness,
}

impl Calls {
    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every call has been told to the caller.
    pub(super) fn all_named(&self) -> bool {
        self.0.iter().all(|call| !call.name.is_empty())
    }

    /// Takes a piece in; `position` is its place in the chunk, which has `of` pieces.
    pub(super) fn add(
        &mut self,
        piece: &CallPiece<'_>,
        position: usize,
        of: usize,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        let id = Some(&*piece.id.0).filter(|id| !id.is_empty());
        let name = &*piece.function.0.name.0;
        let arguments = piece.function.0.arguments();
        if id.is_none() && name.is_empty() && arguments.is_empty() {
            return Ok(()); // It says nothing, not even that there is a call.
        }

        let at = match self.find(piece.index(), id, name, !arguments.is_empty(), (position, of)) {
            Some(at) => at,
            None => {
                if id.is_some() && self.0.iter().any(|call| call.id.as_deref() == id) {
                    return Err(ProviderError::fatal(
                        FailureCode::ToolIdConflict,
                        format!(
                            "two tool calls of one answer have the id {:?}",
                            crate::spec::clip(id.unwrap_or(""), 64)
                        ),
                    ));
                }
                if self.0.len() == CALLS_MAX {
                    let message = format!("more than {CALLS_MAX} tool calls in one answer");
                    return Err(ProviderError::fatal(FailureCode::Limit, message));
                }
                self.0.push(Open {
                    index: piece.index(),
                    id: None,
                    name: String::new(),
                    held: String::new(),
                    arguments: Completeness::default(),
                });
                self.0.len() - 1
            }
        };
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        let call = &mut self.0[at];
        if call.id.is_none() {
            call.id = id.map(str::to_owned);
        }
        call.arguments.add(&arguments);
        if !call.name.is_empty() {
            if !arguments.is_empty() {
                out.push(Delta::Arguments { index, fragment: arguments.into_owned() });
            }
        } else if name.is_empty() {
            call.held.push_str(&arguments);
        } else {
            call.name = name.to_owned();
            out.push(Delta::ToolCall { index, id: call.id.clone(), name: name.to_owned() });
            let fragment = std::mem::take(&mut call.held) + &arguments;
            if !fragment.is_empty() {
                out.push(Delta::Arguments { index, fragment });
            }
        }
        Ok(())
    }

    /// The call that a piece continues; `None` if it begins one.
    fn find(
        &self,
        index: Option<u64>,
        id: Option<&str>,
        name: &str,
        brings_arguments: bool,
        place: (usize, usize),
    ) -> Option<usize> {
        let found = match (index, place) {
            (Some(_), _) => self.0.iter().rposition(|call| call.index == index)?,
            // Without a number: by its id, else by its place among several, else the last one.
            (None, _) if id.is_some_and(|id| self.0.iter().any(|call| call.id.as_deref() == Some(id))) => {
                self.0.iter().rposition(|call| call.id.as_deref() == id)?
            }
            (None, (position, 2..)) if name.is_empty() && position < self.0.len() => position,
            (None, _) => self.0.len().checked_sub(1)?,
        };
        let call = &self.0[found];
        let has_other_id = id.is_some() && call.id.is_some() && call.id.as_deref() != id;
        let begins = if name.is_empty() || call.name.is_empty() {
            // A fresh id alone is no new call: some servers mint one per piece.
            false
        } else if name == call.name {
            // The name again, or the tool again? The latter comes when the former call is whole, and brings something.
            call.arguments.are_complete() && (has_other_id || index.is_none() || brings_arguments)
        } else {
            // Another name without any other sign of a new call is noise.
            call.arguments.are_complete() || has_other_id || index.is_none()
        };
        (!begins).then_some(found)
    }
}

/// Whether fragments have added up to a JSON object, without keeping them.
#[derive(Debug, Default)]
struct Completeness {
    depth: usize,
    in_text: bool,
    escaped: bool,
    begun: bool,
}

impl Completeness {
    fn add(&mut self, fragment: &str) {
        for byte in fragment.bytes() {
            match byte {
                _ if std::mem::take(&mut self.escaped) => {}
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => {
                    self.begun = true;
                    self.depth += 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn are_complete(&self) -> bool {
        self.begun && self.depth == 0
    }
}
