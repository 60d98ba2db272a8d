//! Where something stands in a request. Costs nothing until somebody is told.

use std::fmt;

use super::told;

/// For instance `messages[2].content[0].type`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Top(&'a str),
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    pub(crate) fn item(&'a self, at: usize) -> Self {
        Self::Item(self, at)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(name),
            // Names are ours but for those of a client's metadata.
            Self::Field(of, name) => write!(f, "{of}.{}", told(name)),
            Self::Item(of, at) => write!(f, "{of}[{at}]"),
        }
    }
}
