//! What came of it.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{evidence::Violation, options::Options, points, points::Tally, world::Counts};

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
            (&self.counts.cuts, &counts.cuts),
            (&self.counts.receipts, &counts.receipts),
            (&self.counts.retries, &counts.retries),
        ];
        for (sum, count) in pairs {
            sum.fetch_add(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.recoveries.extend(recoveries);
    }

    /// Prints everything; whether all is well.
    pub(crate) fn print(&mut self, options: &Options, took: Duration) -> bool {
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let cycles = self.passed + self.failed;
        println!("\nstore {}, seed {}, {cycles} cycles in {:.0} s", options.store, options.seed, took.as_secs_f64());
        println!("kills                    {}", self.kills);
        if points::BUILT_IN && options.kills {
            let (reached, missed) = self.tally.summary();
            println!("crash points reached     {reached} of {}", points::POINTS.len());
            println!("reached of armed         {}", self.tally.table());
            if !missed.is_empty() {
                println!("crash points not reached {}", missed.join(", "));
            }
        }
        println!("events delivered         {}", count(&self.counts.delivered));
        println!(
            "connections of readers   {}, {} of them cut",
            count(&self.counts.connections),
            count(&self.counts.cuts)
        );
        println!(
            "answers to commands      {}, {} tries without one",
            count(&self.counts.receipts),
            count(&self.counts.retries)
        );
        println!("logs checked             {} with {} events", self.checked_sessions, self.checked_events);
        println!("tool executions          {}", self.executions);
        if !self.recoveries.is_empty() {
            self.recoveries.sort();
            let at = |part: f64| self.recoveries[((self.recoveries.len() - 1) as f64 * part) as usize].as_secs_f64();
            let count = self.recoveries.len();
            println!(
                "start to open run resolved p50 {:.3} s, p99 {:.3} s, max {:.3} s of {count} open runs",
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
        println!("violations               {}", self.violations.len());
        match self.first_failed {
            None if cycles > 0 => {
                // Rule of three: what did not happen in n trials has, with 95 %, a rate below 3/n.
                println!(
                    "bound                    fewer than {:.1} % of cycles (3/N, 95 %)",
                    300.0 / f64::from(cycles)
                );
            }
            None => {}
            Some(cycle) => {
                let mut kinds: Vec<String> =
                    self.violations.iter().map(|violation| format!("{} {}", violation.rule, violation.kind)).collect();
                kinds.sort();
                kinds.dedup();
                println!("kinds                    {}", kinds.join(", "));
                let kills = if options.kills { "--kills" } else { "--no-kills" };
                println!(
                    "again                    --seed {} --store {} {kills} --cycles {} --stop",
                    options.seed,
                    options.store,
                    cycle + 1
                );
            }
        }
        println!("torture: {} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}
