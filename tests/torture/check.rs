//! The checker: evidence in, violations out. Pure, so that it has tests of its own.

use crate::{
    evidence::{Case, Violation},
    story::{Event, events},
};

mod commands;
mod fold;
mod journals;
mod recovery;
mod runs;
mod tests;
mod text;
mod tools;

pub(crate) use tests::TESTS;

/// Where the rules put what they find.
pub(crate) struct Findings<'a> {
    session: &'a str,
    found: Vec<Violation>,
}

impl Findings<'_> {
    fn add(&mut self, rule: &'static str, kind: &'static str, detail: impl Into<String>) {
        let detail = detail.into();
        self.found.push(Violation { rule, kind, session: self.session.to_owned(), detail });
    }

    fn unless(&mut self, holds: bool, rule: &'static str, kind: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, kind, detail());
        }
    }
}

/// Everything that is wrong with one session.
pub(crate) fn check(case: &Case) -> Vec<Violation> {
    let mut findings = Findings { session: &case.session, found: Vec::new() };
    let log: Vec<Event> = events(case);
    journals::check(case, &log, &mut findings);
    commands::check(case, &log, &mut findings);
    if case.exists {
        runs::check(case, &log, &mut findings);
        recovery::check(case, &log, &mut findings);
        tools::check(case, &log, &mut findings);
        text::check(case, &log, &mut findings);
        fold::check(case, &log, &mut findings);
    }
    for exchange in &case.exchanges {
        if let Some(complaint) = &exchange.complaint {
            findings.add("R6", "false history", complaint.clone());
        }
    }
    findings.found
}
