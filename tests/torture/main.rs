//! The crash test: a real server, a model server that knows every word in advance, readers on every transport,
//! controllers that insist, and a nemesis that kills the server at any moment. What was seen from outside is then held
//! against the promises.
//!
//! This binary is all of them: it starts itself in the roles `server` and `upstream`. Everything is on loopback, below
//! the target directory, and ends by itself; children end with their owner. `cargo test` runs twenty cycles;
//! `cargo test --test torture -- --help` says what else there is.
#![expect(clippy::disallowed_methods, reason = "the harness runs by the machine's own clock")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

mod canon;
mod check;
mod clock;
mod collect;
mod controller;
mod cycle;
mod evidence;
mod hand;
mod host;
mod http;
mod options;
mod oracle;
mod plants;
mod points;
mod process;
mod prompt;
mod reader;
mod report;
mod selftest;
mod server;
mod settle;
mod story;
mod upstream;
mod wire;
mod world;

use collect::{Lines, Outside};
use cycle::Stage;
use host::Host;
use options::{Options, USAGE, Wish};
use oracle::Oracle;
use process::Role;
use report::Report;
use world::World;

/// One directory of so many belongs to a server that ends what ran when it was killed.
const FAILS_EVERY: u32 = 10;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(true)
        }
        ["server", store, on_crash, upstream, tools] => {
            process::end_with_owner();
            let upstream = upstream.parse().expect("a port");
            runtime.block_on(server::run(store, on_crash, upstream, Path::new(tools))).map(|()| true)
        }
        ["upstream", seed, journal] => {
            process::end_with_owner();
            let seed = seed.parse().expect("a number");
            runtime.block_on(upstream::run(seed, Path::new(journal))).map(|()| true)
        }
        _ => match Options::read(&args) {
            Ok(Wish::Nothing) => Ok(true),
            Ok(Wish::Run(options)) => proved(&options, &runtime),
            Err(message) => Err(message),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("torture: {message}");
            ExitCode::FAILURE
        }
    }
}

fn proved(options: &Options, runtime: &tokio::runtime::Runtime) -> Result<bool, String> {
    println!("{} tests of the harness itself passed", selftest::run()?);
    match &options.plants {
        Some(names) => plants::run(names, options.seed),
        None => runtime.block_on(torture(options)),
    }
}

async fn torture(options: &Options) -> Result<bool, String> {
    let began = Instant::now();
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-{}", std::process::id()));
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let journal = home.join("upstream.jsonl");
    let seed = options.seed;
    let args = ["upstream".to_owned(), seed.to_string(), journal.display().to_string()];
    let upstream = Role::start(&args, None, &home.join("upstream.log")).await;
    let mut upstream = upstream.map_err(|fault| format!("the upstream {fault}"))?;

    let mut report = Report::default();
    let mut stage: Option<Stage<'_>> = None;
    for number in 0..options.cycles {
        let last_here = (number + 1) % options.fresh_every == 0 || number + 1 == options.cycles;
        let here = match &mut stage {
            Some(here) => here,
            None => {
                let directory = home.join(format!("from-{number}"));
                std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
                let directories = number / options.fresh_every;
                let fails_on_crash = options.kills && !options.term && directories % FAILS_EVERY == FAILS_EVERY - 1;
                let world = World::new(Oracle { seed }, fails_on_crash);
                let mut host = Host::new(world, directory, &options.store, upstream.port);
                host.tally = std::mem::take(&mut report.tally);
                host.start(None).await?;
                let (outside, complaints) = (Outside::default(), Lines::default());
                stage.insert(Stage { host, outside, complaints, upstream_journal: &journal, options })
            }
        };
        // A cycle's dice depend on nothing that went before: any of them can be looked at again.
        let mut dice = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
        let violations = here.cycle(number, last_here, &mut dice, &mut report).await?;
        let stop = options.stop && !violations.is_empty();
        report.cycle(number, violations);
        if last_here || stop {
            leave(&mut stage, &mut report).await;
        }
        if stop {
            break;
        }
    }
    upstream.kill().await;
    let well = report.print(options, began.elapsed());
    if well && !options.keep {
        let _tidied_next_time = std::fs::remove_dir_all(&home);
    } else {
        println!("(evidence in {})", home.display());
    }
    Ok(well)
}

/// The end of a directory.
async fn leave(stage: &mut Option<Stage<'_>>, report: &mut Report) {
    let Some(Stage { mut host, .. }) = stage.take() else { return };
    host.stop().await;
    report.kills += host.kills;
    report.stops.append(&mut host.stops);
    report.tally = std::mem::take(&mut host.tally);
    let world: Arc<World> = host.world.clone();
    let recoveries = world.recoveries.lock().expect("no panic while it is held").clone();
    report.add(&world.counts, &recoveries);
}
