//! The command line.

use std::time::Duration;

use crate::{
    clock::now_us,
    points::{BUILT_IN, POINTS},
};

/// How the harness is used; also what is said of it on `--help`.
pub(crate) const USAGE: &str = "\
torture: kills a real server over and over, and checks that nobody notices

  --cycles N         cycles of load, kill, restart and check (20)
  --seed N           everything that is drawn is drawn from it (from the clock)
  --store STORE      memory or disk (disk)
  --kills, --no-kills
                     whether the server is killed (with the disk)
  --term             it is asked to stop (SIGTERM) in place of being killed
  --point NAME       the server dies at this point wherever it dies at one
  --fresh-every N    cycles on one directory (25)
  --load-ms N        length of the load of a cycle (about 800)
  --stop             ends at the first cycle with a violation
  --keep             keeps the directory also when all is well
  --plants [NAME…]   plants bugs into a copy of the source, and requires that each is found";

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cycles: u32,
    pub(crate) seed: u64,
    pub(crate) store: String,
    pub(crate) kills: bool,
    /// Its deaths are planned: SIGTERM, and a drain.
    pub(crate) term: bool,
    pub(crate) point: Option<&'static str>,
    pub(crate) fresh_every: u32,
    pub(crate) load: Duration,
    pub(crate) stop: bool,
    pub(crate) keep: bool,
    /// Names of planted bugs; empty for all of them.
    pub(crate) plants: Option<Vec<String>>,
}

/// What the command line comes to.
pub(crate) enum Wish {
    Run(Options),
    /// Another test was asked for by its name.
    Nothing,
}

impl Options {
    /// Reads the arguments. Those of the usual test harness are let pass: `cargo test` gives them to every target.
    pub(crate) fn read(args: &[String]) -> Result<Wish, String> {
        let mut options = Self {
            cycles: 20,
            seed: now_us() % 1_000_000_000,
            store: "disk".into(),
            kills: false,
            term: false,
            point: None,
            fresh_every: 25,
            load: Duration::from_millis(800),
            stop: false,
            keep: false,
            plants: None,
        };
        let mut kills = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{USAGE}"));
            let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {text}"));
            match arg.as_str() {
                "--cycles" => options.cycles = u32::try_from(number(value()?)?).map_err(|error| error.to_string())?,
                "--seed" => options.seed = number(value()?)?,
                "--store" => options.store = value()?.clone(),
                "--kills" => kills = Some(true),
                "--no-kills" => kills = Some(false),
                "--term" => options.term = true,
                "--point" => options.point = Some(known(value()?)?),
                "--fresh-every" => options.fresh_every = number(value()?)?.clamp(1, 1_000_000) as u32,
                "--load-ms" => options.load = Duration::from_millis(number(value()?)?.max(50)),
                "--stop" => options.stop = true,
                "--keep" => options.keep = true,
                "--plants" => options.plants = Some(Vec::new()),
                "--list" => return Ok(Wish::Nothing),
                "--test-threads" | "--skip" | "--format" | "--color" => drop(value()?),
                other if other.starts_with("--test-threads=") || other.starts_with("--format=") => {}
                "--quiet" | "-q" | "--nocapture" | "--exact" | "--include-ignored" | "--ignored" | "--show-output" => {}
                other if other.starts_with('-') => return Err(format!("unknown argument {other}\n\n{USAGE}")),
                name => match &mut options.plants {
                    Some(plants) => plants.push(name.to_owned()),
                    None if "torture".contains(name) => {}
                    None => return Ok(Wish::Nothing),
                },
            }
        }
        if !matches!(options.store.as_str(), "memory" | "disk") {
            return Err(format!("--store {}: memory or disk", options.store));
        }
        // What lives in memory dies with the process: killing it proves that the checker sees a loss.
        options.kills = kills.unwrap_or(options.store != "memory");
        Ok(Wish::Run(options))
    }
}

fn known(point: &str) -> Result<&'static str, String> {
    let names = || POINTS.iter().map(|(name, _)| *name);
    match names().find(|name| *name == point) {
        _ if !BUILT_IN => Err(format!("--point {point}: only with --features crash-points")),
        Some(name) => Ok(name),
        None => Err(format!("--point {point}: there are {}", names().collect::<Vec<_>>().join(", "))),
    }
}
