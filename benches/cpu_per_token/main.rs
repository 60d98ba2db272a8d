//! CPU per delivered token: Steerage beside nginx, in the same run.
//!
//! A mock upstream sends 40 tokens a second on every stream; a client holds the streams and checks that each token
//! comes once and in order. Between the two stands Steerage (OpenAI-compatible provider, SSE, each of its stores), or nginx
//! that passes bytes through (`proxy_buffering off`). Mock, client and server are processes of their own; the CPU is
//! the server's alone, user and kernel, from `/proc/PID/stat`. The rounds alternate, and the medians are printed.
//!
//! `scripts/bench` runs it; everything is on loopback and ends by itself.
#![expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own clocks and sleep")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

mod client;
mod mock;
mod process;
mod server;

use process::Cpu;
use server::Kind;

/// Tokens a second of every stream.
const RATE: u64 = 40;

/// What is measured, and for how long.
struct Plan {
    streams: usize,
    seconds: u64,
    rounds: usize,
    workers: Vec<usize>,
    kinds: Vec<Kind>,
    with_direct: bool,
}

impl Plan {
    fn from_args(args: &[String]) -> Result<Self, String> {
        // `cargo bench` says --bench; without it, as in `cargo test --benches`, only whether it works is of interest.
        let quick = args.iter().any(|arg| arg == "--quick") || !args.iter().any(|arg| arg == "--bench");
        let mut plan = match quick {
            true => Self {
                streams: 100,
                seconds: 3,
                rounds: 1,
                workers: vec![1],
                kinds: vec![Kind::Nginx, Kind::Memory, Kind::DiskOs],
                with_direct: false,
            },
            false => Self {
                streams: 500,
                seconds: 10,
                rounds: 3,
                workers: vec![1, 2],
                kinds: vec![Kind::Nginx, Kind::Memory, Kind::DiskOs, Kind::DiskFsync],
                with_direct: true,
            },
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{arg} needs a number"))
            };
            match arg.as_str() {
                "--bench" | "--quick" => {}
                "--streams" => plan.streams = number()?,
                "--seconds" => plan.seconds = number()? as u64,
                "--rounds" => plan.rounds = number()?,
                "--workers" => plan.workers = vec![number()?],
                "--only-steerage" => plan.kinds.retain(|kind| *kind != Kind::Nginx),
                "--only-disk" => plan.kinds = vec![Kind::DiskOs],
                "--only-nginx" => plan.kinds = vec![Kind::Nginx],
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(plan)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("mock") => mock::run(),
        Some("client") => client::run(&args[1..]),
        _ => Plan::from_args(&args).and_then(|plan| measure(&plan)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cpu_per_token: {message}");
            ExitCode::FAILURE
        }
    }
}

/// One round's figures.
struct Round {
    user_us: f64,
    system_us: f64,
    tokens_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// Memory when the window begins: a few seconds after the first token.
    kib_per_stream: f64,
    /// Memory that each further token took.
    bytes_per_token: f64,
}

impl Round {
    fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

fn measure(plan: &Plan) -> Result<(), String> {
    let Plan { streams, seconds, rounds, .. } = plan;
    println!(
        "{streams} streams × {RATE} tokens/s, {rounds} × {seconds} s each, medians; CPU of the server process(es)\n"
    );
    let kinds: Vec<Kind> = plan.kinds.iter().copied().filter(|kind| kind.is_available()).collect();
    let mock = mock::start()?;
    if plan.with_direct {
        let direct = round(plan, None, &mock)?;
        println!(
            "without a server between: latency p50 {:.2} ms, p99 {:.2} ms\n",
            direct.p50_us / 1e3,
            direct.p99_us / 1e3
        );
    }
    println!(
        "| server | workers | µs/token | user | system | ratio | tokens/s | p50 ms | p99 ms | KiB/stream | B/token kept |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for &workers in &plan.workers {
        let mut found: Vec<(Kind, Vec<Round>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        for _ in 0..*rounds {
            for (kind, rounds) in &mut found {
                rounds.push(round(plan, Some((*kind, workers)), &mock)?);
            }
        }
        let base = found.iter().find(|(kind, _)| *kind == Kind::Nginx).map(|(_, rounds)| median(rounds, Round::cpu_us));
        for (kind, rounds) in &found {
            let of = |figure: fn(&Round) -> f64| median(rounds, figure);
            let ratio = base.map_or("–".to_owned(), |base| format!("{:.2}", of(Round::cpu_us) / base));
            println!(
                "| {} | {workers} | {:.1} | {:.1} | {:.1} | {ratio} | {:.0} | {:.2} | {:.2} | {:.1} | {:.0} |",
                kind.name(),
                of(Round::cpu_us),
                of(|r| r.user_us),
                of(|r| r.system_us),
                of(|r| r.tokens_per_s),
                of(|r| r.p50_us) / 1e3,
                of(|r| r.p99_us) / 1e3,
                of(|r| r.kib_per_stream),
                of(|r| r.bytes_per_token),
            );
        }
    }
    Ok(())
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A fresh server, a fresh client, one window.
fn round(plan: &Plan, server: Option<(Kind, usize)>, mock: &mock::Mock) -> Result<Round, String> {
    let server = server.map(|(kind, workers)| server::start(kind, workers, mock.port)).transpose()?;
    let target = server.as_ref().map_or(("nginx", mock.port), |server| (server.kind.door(), server.port));
    let usage = || server.as_ref().map_or(Ok(Cpu::default()), |server| process::usage(server.pid()));
    let before = usage()?;
    // Long enough for the ramp and the window even on a busy machine; whatever is left is cut.
    let tokens = RATE * (plan.seconds + 30);
    let mut client = client::start(target.0, target.1, plan.streams, tokens)?;
    client.ask("flowing")?;
    std::thread::sleep(Duration::from_secs(if plan.seconds < 5 { 1 } else { 2 }));
    client.ask("begin")?;
    let (begun, began) = (usage()?, Instant::now());
    std::thread::sleep(Duration::from_secs(plan.seconds));
    let (ended, took) = (usage()?, began.elapsed());
    let seen = client::Seen::parse(&client.ask("end")?)?;
    if seen.tokens == 0 {
        return Err(format!("{}: no token came", target.0));
    }
    if let Some(problem) = seen.problem {
        return Err(format!("{}: {problem}", target.0));
    }
    let tokens = seen.tokens as f64;
    Ok(Round {
        user_us: (ended.user - begun.user).as_secs_f64() * 1e6 / tokens,
        system_us: (ended.system - begun.system).as_secs_f64() * 1e6 / tokens,
        tokens_per_s: tokens / took.as_secs_f64(),
        p50_us: seen.p50_us as f64,
        p99_us: seen.p99_us as f64,
        kib_per_stream: begun.rss_kib.saturating_sub(before.rss_kib) as f64 / plan.streams as f64,
        bytes_per_token: ended.rss_kib.saturating_sub(begun.rss_kib) as f64 * 1024.0 / tokens,
    })
}
