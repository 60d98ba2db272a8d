//! The state ring: the pure machine alone, driven at random, and after every step asked what must always be true.
//!
//! `world` obeys the machine's effects, sometimes late; `moves` makes random bytes into things that happen; `audit` is
//! a second opinion about the log. The volume is a million steps; `STEERAGE_MACHINE_STEPS` asks for more, and a failing
//! session prints the seed that `STEERAGE_MACHINE_SEED` repeats with every input and event written out.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
};

use proptest::prelude::*;

use self::{
    moves::Move,
    world::{Kept, World},
};

pub(crate) mod audit;
mod moves;
pub(crate) mod world;

/// Steps of the normal run.
const STEPS: u64 = 1_000_000;
/// Moves of one session.
const MOVES: usize = 200;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One session from one seed.
fn session(seed: u64, trace: bool) -> World {
    play(seed, |world| world.trace = trace)
}

/// The log of one session, for those who read logs.
pub(crate) fn log(seed: u64) -> Kept {
    let keep = |world: &mut World| {
        world.kept = Some(Kept { log: vec![world.created.clone()], rests: BTreeMap::new() });
    };
    play(seed, keep).kept.expect("it was asked to keep it")
}

fn play(seed: u64, wish: impl FnOnce(&mut World)) -> World {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(random.u8(..));
    wish(&mut world);
    for _ in 0..MOVES {
        let mut next = Move::default();
        random.fill(&mut next);
        world.make(next);
        if world.forgotten {
            break;
        }
    }
    if !world.forgotten {
        world.finish();
    }
    world
}

#[test]
fn r5_r7_r8_r9_r10_hold_after_each_of_a_million_random_steps() {
    if let Some(seed) = from_environment("STEERAGE_MACHINE_SEED") {
        session(seed, true);
        return;
    }
    let steps = from_environment("STEERAGE_MACHINE_STEPS").unwrap_or(STEPS);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(2) as u64;
    let all = std::thread::scope(|scope| {
        let work = |worker: u64| {
            move || {
                let (mut made, mut sessions, mut events, mut seen) = (0, 0u64, 0, BTreeSet::new());
                while made < steps / workers {
                    let seed = worker + sessions * workers;
                    let world = std::panic::catch_unwind(AssertUnwindSafe(|| session(seed, false)))
                        .unwrap_or_else(|_| panic!("repeat it with STEERAGE_MACHINE_SEED={seed}"));
                    (made, sessions, events) = (made + world.steps, sessions + 1, events + world.audit.events);
                    seen.extend(world.audit.seen);
                }
                (made, sessions, events, seen)
            }
        };
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        running.into_iter().map(|worker| worker.join().expect("no session breaks")).collect::<Vec<_>>()
    });
    let (mut made, mut sessions, mut events, mut seen) = (0, 0, 0, BTreeSet::new());
    for (m, s, e, what) in all {
        (made, sessions, events) = (made + m, sessions + s, events + e);
        seen.extend(what);
    }
    println!("{made} steps of {sessions} sessions wrote {events} events and saw {}: {seen:?}", seen.len());
    // A test that never gets anywhere proves nothing: all events but the first, and every kind of ending, were met.
    for must in MUST_SEE {
        assert!(seen.contains(must), "no session came to {must}");
    }
}

/// What a million random steps come across: every event, and every reason that a machine alone can give.
const MUST_SEE: [&str; 77] = [
    "session.near_limit",
    "run.recovered",
    "Prefill",
    "Continue",
    "RestartStep",
    "refused",
    "run again",
    "recovered too often",
    "session.closed",
    "input.added",
    "run.started",
    "step.started",
    "step.ended",
    "text.started",
    "text.delta",
    "text.ended",
    "reasoning.started",
    "reasoning.delta",
    "reasoning.ended",
    "tool_call.started",
    "tool_call.delta",
    "tool_call.ready",
    "approval.requested",
    "approval.resolved",
    "history.rewound",
    "history.diverged",
    "tool.started",
    "tool.completed",
    "tool.failed",
    "command.accepted",
    "command.applied",
    "command.rejected",
    "command.withdrawn",
    "run.completed",
    "run.cancelled",
    "run.failed",
    "rollback",
    "Approved",
    "Denied",
    "Superseded",
    "ToolResult",
    "handed over",
    "result between two runs",
    "given up",
    "steered between two runs",
    "steered, and given up",
    "allowed",
    "brought",
    "metadata",
    "Regenerate",
    "TimedOut",
    "Cancelled",
    "DeniedByUser",
    "ApprovalTimedOut",
    "Interrupted",
    "OutcomeUnknown",
    "Error",
    "NoActiveRun",
    "RunMismatch",
    "RunActive",
    "AlreadyResolved",
    "Stale",
    "UnknownApproval",
    "UnknownCall",
    "ApprovalPending",
    "NotAClientTool",
    "InvalidArguments",
    "AlreadyApplied",
    "UnknownTarget",
    "TooManyPending",
    "ServerShutdown",
    "OwnerLost",
    "Limit",
    "ToolIdConflict",
    // The two that refuse without a record.
    "commands",
    "events",
    "bytes",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same with sessions that shrink: the shortest and tamest failing one is printed.
    #[test]
    fn a_session_of_random_moves_keeps_every_rule(kind: u8, moves in proptest::collection::vec(any::<Move>(), 1..120)) {
        let mut world = World::new(kind);
        for next in moves {
            world.make(next);
            if world.forgotten {
                return Ok(());
            }
        }
        world.finish();
    }
}
