//! Proves the harness: plants bugs into a copy of the source, one at a time, and requires that each is found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value;

use crate::points;

/// What a build of the tests needs of the project.
const NEEDED: [&str; 9] = ["Cargo.toml", "Cargo.lock", "src", "tests", "benches", "examples", "openapi", "docs", "web"];
/// Longest that one planted harness may run.
const RUN_MAX: Duration = Duration::from_secs(600);

/// The list of bugs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Garden {
    plant: Vec<Plant>,
}

/// One bug.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plant {
    name: String,
    why: String,
    /// The store of the cycles.
    #[serde(default = "disk")]
    store: String,
    /// Where the server dies, if it is to die there more often than elsewhere.
    point: Option<String>,
    /// In place of cycles: the tests of the usual binary that one of must fail.
    test: Option<String>,
    #[serde(default)]
    expect: Vec<String>,
    #[serde(default)]
    cycles: u32,
    edit: Vec<Edit>,
}

fn disk() -> String {
    "disk".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    find: String,
    replace: String,
}

/// How a planted harness ended.
struct Found {
    /// Cycles until the first violation.
    cycles: u32,
    rules: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Plants what is named, or everything. Whether all of it was found.
pub(crate) fn run(names: &[String], seed: u64) -> Result<bool, String> {
    let garden: Garden =
        toml::from_str(include_str!("plants.toml")).map_err(|error| format!("plants.toml: {error}"))?;
    if let Some(unknown) = names.iter().find(|name| garden.plant.iter().all(|plant| plant.name != **name)) {
        return Err(format!("there is no plant {unknown}"));
    }
    let wanted = garden.plant.iter().filter(|plant| names.is_empty() || names.contains(&plant.name));
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plants");
    let mut rows = Vec::new();
    let mut missed = 0;
    for plant in wanted {
        println!("planting {}: {}", plant.name, plant.why);
        let began = Instant::now();
        // One that cannot be planted any more keeps nobody from the others.
        let (right, by, cycles, rules) = try_out(&home, plant, seed).unwrap_or_else(|error| {
            println!("{error}");
            (false, "–".into(), "not planted".into(), String::new())
        });
        missed += u32::from(!right);
        let state = if right { "found" } else { "MISSED" };
        rows.push(format!("| {} | {by} | {state} | {cycles} | {rules} |", plant.name));
        println!("  {state}, cycles {cycles}, {rules} ({:.0} s)", began.elapsed().as_secs_f64());
    }
    println!("\n| planted bug | looked for with | | cycles until found | violated |\n| --- | --- | --- | --- | --- |");
    rows.iter().for_each(|row| println!("{row}"));
    println!("plants: {} found, {missed} missed", rows.len() - missed as usize);
    Ok(missed == 0)
}

/// Whether a plant is found; by what, after how many cycles, against which rules.
fn try_out(home: &Path, plant: &Plant, seed: u64) -> Result<(bool, String, String, String), String> {
    if let Some(filter) = &plant.test {
        let failed = failing(home, plant, filter)?;
        let by = format!("`--test it {filter}`");
        return Ok((!failed.is_empty(), by, "–".into(), failed.join(" ")));
    }
    let harness = build(home, &plant.edit)?;
    let found = torment(&harness, plant, seed)?;
    let right = found.as_ref().is_some_and(|found| found.rules.iter().any(|rule| plant.expect.contains(rule)));
    let (cycles, rules) = match &found {
        Some(found) => (format!("{} of {}", found.cycles, plant.cycles), found.rules.join(" ")),
        None => (format!("not in {}", plant.cycles), String::new()),
    };
    Ok((right, plant.store.clone(), cycles, rules))
}

/// The tests of the usual binary that fail with the plant.
fn failing(home: &Path, plant: &Plant, filter: &str) -> Result<Vec<String>, String> {
    let mut cargo = cargo(home, &plant.edit)?;
    let output = cargo.args(["test", "--quiet", "--test", "it", filter]).stderr(Stdio::null()).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = text.lines().skip_while(|line| *line != "failures:").filter_map(|line| line.strip_prefix("    "));
    let mut failed: Vec<String> = failed.filter(|line| line.contains("::")).map(str::to_owned).collect();
    failed.sort();
    failed.dedup();
    match text.contains("test result: ") {
        true => Ok(failed),
        false => Err("the planted source does not compile".into()),
    }
}

/// Copies the project and makes the edits: cargo, in the copy. Files that are the same stay untouched, so
/// that only what changed is compiled.
fn cargo(home: &Path, edits: &[Edit]) -> Result<Command, String> {
    let source = home.join("source");
    fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    for name in NEEDED {
        copy(&root().join(name), &source.join(name), edits)?;
    }
    for edit in edits {
        if !root().join(&edit.file).is_file() {
            return Err(format!("there is no {}", edit.file));
        }
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&source).env("CARGO_TARGET_DIR", home.join("target"));
    Ok(cargo)
}

/// Builds the harness of the planted copy.
fn build(home: &Path, edits: &[Edit]) -> Result<PathBuf, String> {
    let mut cargo = cargo(home, edits)?;
    cargo.args(["test", "--quiet", "--test", "torture", "--no-run", "--message-format", "json-render-diagnostics"]);
    if points::BUILT_IN {
        cargo.args(["--features", "crash-points"]);
    }
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err("the planted source does not compile".into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifact = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "torture").then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    };
    messages.lines().filter_map(artifact).next_back().ok_or_else(|| "cargo names no harness".into())
}

fn copy(from: &Path, to: &Path, edits: &[Edit]) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).map_err(say)?;
        for entry in fs::read_dir(from).map_err(say)? {
            let name = entry.map_err(say)?.file_name();
            // What npm has fetched is large, and nothing of ours.
            if name != "node_modules" {
                copy(&from.join(&name), &to.join(&name), edits)?;
            }
        }
        return Ok(());
    }
    let mut bytes = fs::read(from).map_err(say)?;
    for edit in edits.iter().filter(|edit| root().join(&edit.file) == from) {
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        let count = text.matches(&edit.find).count();
        if count != 1 {
            return Err(format!(
                "{} has the text to be replaced {count} times, once is right:\n{}",
                edit.file, edit.find
            ));
        }
        bytes = text.replace(&edit.find, &edit.replace).into_bytes();
    }
    if fs::read(to).ok().as_ref() != Some(&bytes) {
        fs::write(to, bytes).map_err(say)?;
    }
    Ok(())
}

/// Runs the planted harness until its first violation. `None` when it has none to report.
fn torment(harness: &Path, plant: &Plant, seed: u64) -> Result<Option<Found>, String> {
    let mut command = Command::new(harness);
    command.args(["--stop", "--store", &plant.store, "--cycles", &plant.cycles.to_string()]);
    if let Some(point) = plant.point.as_ref().filter(|_| points::BUILT_IN) {
        command.args(["--point", point]);
    }
    let mut child = command
        .args(["--seed", &seed.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", harness.display()))?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut output).unwrap_or_default());
    let began = Instant::now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if began.elapsed() > RUN_MAX {
            let _ended_already = child.kill();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let text = reading.join().unwrap_or_default();
    let mut found: Option<Found> = None;
    for line in text.lines().filter_map(|line| line.strip_prefix("violation in cycle ")) {
        let (cycle, what) = line.split_once(": ").ok_or("a violation without a cycle")?;
        let rule = what.split(' ').next().unwrap_or_default().to_owned();
        let cycles = cycle.parse::<u32>().map_err(|error| error.to_string())? + 1;
        let found = found.get_or_insert(Found { cycles, rules: Vec::new() });
        if !found.rules.contains(&rule) {
            found.rules.push(rule);
        }
    }
    if found.is_none() && !text.contains("torture: ") {
        return Err(format!("the harness with {} did not come to an end:\n{text}", plant.name));
    }
    Ok(found)
}
