//! What came of it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    evidence::Violation,
    options::Options,
    points::{self, Tally},
    world::{Counts, MODES},
};

/// Violations that are printed in full; the others are counted.
const SHOWN_MAX: usize = 12;

/// The sum over all cycles.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) first_failed: Option<u32>,
    pub(crate) kills: u32,
    pub(crate) checked_events: u64,
    pub(crate) checked_sessions: u64,
    pub(crate) executions: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) recoveries: Vec<Duration>,
    pub(crate) stops: Vec<Duration>,
    pub(crate) counts: Counts,
    pub(crate) tally: Tally,
}

impl Report {
    /// One cycle is over.
    pub(crate) fn cycle(&mut self, number: u32, violations: Vec<Violation>) {
        if violations.is_empty() {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.first_failed.get_or_insert(number);
            for violation in violations.iter().take(SHOWN_MAX.saturating_sub(self.violations.len())) {
                println!("violation in cycle {number}: {violation}");
            }
            self.violations.extend(violations);
        }
    }

    /// Takes over what a directory's world has counted.
    pub(crate) fn add(&mut self, counts: &Counts, recoveries: &[Duration]) {
        let pairs = [
            (&self.counts.delivered, &counts.delivered),
            (&self.counts.connections, &counts.connections),
            (&self.counts.reconnects, &counts.reconnects),
            (&self.counts.cuts, &counts.cuts),
            (&self.counts.told, &counts.told),
            (&self.counts.receipts, &counts.receipts),
            (&self.counts.retries, &counts.retries),
        ];
        let recovered = self.counts.recovered.iter().zip(&counts.recovered);
        for (sum, count) in pairs.into_iter().chain(recovered) {
            sum.fetch_add(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.recoveries.extend(recoveries);
    }

    /// Prints everything; whether all is well.
    pub(crate) fn print(&mut self, options: &Options, took: Duration) -> bool {
        let resolved = self.resolved();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (counts, cycles) = (&self.counts, self.passed + self.failed);
        println!("\nstore {}, seed {}, {cycles} cycles in {:.0} s", options.store, options.seed, took.as_secs_f64());
        println!("kills                    {}", self.kills);
        let (reached, missed) = self.tally.summary();
        let mut at_points = "no points".to_owned();
        if points::BUILT_IN && options.kills {
            at_points = format!("{reached} of {} points", points::POINTS.len());
            println!("points reached of armed  {}", self.tally.table());
            if !missed.is_empty() {
                println!("points not reached       {}", missed.join(", "));
            }
        }
        if options.term {
            self.stops.sort();
            let at = |part: usize| self.stops.get(self.stops.len() * part / 100).or(self.stops.last());
            let at = |part| at(part).map_or(0.0, Duration::as_secs_f64);
            println!(
                "stops by SIGTERM         {}, exit code 0 after p50 {:.3} s, p99 {:.3} s, max {:.3} s; {} readers were told",
                self.stops.len(),
                at(50),
                at(99),
                at(100),
                count(&counts.told),
            );
            // A drain that tells nobody is none.
            self.failed += u32::from(count(&counts.told) == 0);
        }
        println!("connections of readers   {}, {} of them cut", count(&counts.connections), count(&counts.cuts));
        println!("answers to commands      {}, {} tries without one", count(&counts.receipts), count(&counts.retries));
        println!("logs checked             {} with {} events", self.checked_sessions, self.checked_events);
        println!("tool executions          {}", self.executions);
        let recovered: Vec<String> =
            MODES.iter().zip(&counts.recovered).map(|(mode, sum)| format!("{} {mode}", count(sum))).collect();
        println!("runs seen to go on       {}", recovered.join(", "));
        if let Some(cycle) = self.first_failed {
            let mut kinds: Vec<String> = self.violations.iter().map(|v| format!("{} {}", v.rule, v.kind)).collect();
            kinds.sort();
            kinds.dedup();
            println!("kinds                    {}", kinds.join(", "));
            let kills = if options.kills { "--kills" } else { "--no-kills" };
            let (seed, store) = (options.seed, &options.store);
            println!("again                    --seed {seed} --store {store} {kills} --cycles {} --stop", cycle + 1);
        }
        // Rule of three: what did not happen in n trials has, with 95 %, a rate below 3/n.
        let bound = match self.failed {
            0 => format!(" (below {:.1} % of cycles, 3/N at 95 %)", 300.0 / f64::from(cycles.max(1))),
            failed => format!(" in {failed} cycles"),
        };
        println!(
            "torture: {cycles} cycles, {} kills, {at_points}, {} events delivered, {} reconnects, \
             {} receipts, {} violations{bound}{resolved}",
            self.kills,
            count(&counts.delivered),
            count(&counts.reconnects),
            count(&counts.receipts),
            self.violations.len(),
        );
        self.failed == 0
    }

    /// From a start of the server until a run that was open went on, or had its end.
    fn resolved(&mut self) -> String {
        self.recoveries.sort();
        let Some(last) = self.recoveries.len().checked_sub(1) else { return String::new() };
        let at = |part: f64| self.recoveries[(last as f64 * part) as usize].as_secs_f64();
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        format!("; {} open runs resolved after p50 {p50:.3} s, p99 {p99:.3} s, max {max:.3} s", last + 1)
    }
}
