//! The house rules that a script can see, so that ARCHITECTURE.md stays true.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Longest file, tests included: one noun per file.
const LINES_MAX: usize = 500;

/// The floors, lowest first; a file imports lower floors and its own folder, never its siblings.
const FLOORS: [&[&str]; 11] = [
    &["crash", "digest", "id", "spec"],
    &["command", "env"],
    &["event"],
    &["auth", "fetch", "frame", "limit", "metrics", "openai", "sse", "trace"],
    &["log"],
    &["dialect", "provider", "store", "tool"],
    &["session"],
    &["registry"],
    &["http"],
    &["config"],
    &["server", "telemetry"],
];

/// The modules of the binary: they use the library as anyone does.
const BINARY: [&str; 4] = ["chat", "main", "operate", "signals"];

/// The folders whose files do not see each other: one adapter knows nothing of the next.
const ADAPTERS: [&str; 4] = ["dialect", "provider", "store", "tool"];

struct Source {
    path: PathBuf,
    /// The path within `src`, with slashes.
    name: String,
    text: String,
}

impl Source {
    /// The module right below the crate that it belongs to.
    fn module(&self) -> &str {
        self.name.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Its lines without comments and without its unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| *line != "#[cfg(test)]");
        lines.enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let read = |path: PathBuf| Source {
        name: path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(&path).expect("a text"),
        path,
    };
    files(&src, "rs").into_iter().map(read).collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The modules of this crate that a text names: `crate::x` and the first level of `use crate::{…}`.
fn imports(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut path) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => {
                        depth += 1;
                        path.push(c);
                    }
                    '}' if depth == 0 => break,
                    '}' => {
                        depth -= 1;
                        path.push(c);
                    }
                    ',' if depth == 0 => found.push(split(&std::mem::take(&mut path))),
                    c => path.push(c),
                }
            }
            found.push(split(&path));
        } else {
            found.push(split(rest));
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

fn split(path: &str) -> Vec<String> {
    let path: String = path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_module_has_its_floor_and_imports_only_lower_ones() {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        if module == "lib" || BINARY.contains(&module) {
            continue;
        }
        let Some(own) = floor(module) else {
            wrong.push(format!("{}: {module} stands on no floor", source.name));
            continue;
        };
        let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        for path in imports(&code) {
            let lower = floor(&path[0]).is_some_and(|floor| floor < own);
            if path[0] != module && !lower {
                wrong.push(format!("{} imports {}, which is no lower floor", source.name, path.join("::")));
            }
            // `provider/openai/…` may say `provider` and `provider::openai`, and nothing of `provider::demo`.
            let mut parts = source.name.trim_end_matches(".rs").split('/');
            if let (Some(folder), Some(own_adapter)) = (parts.next(), parts.next())
                && ADAPTERS.contains(&folder)
                && path[0] == folder
                && path.get(1).is_some_and(|other| {
                    root().join("src").join(folder).join(format!("{other}.rs")).exists() && other != own_adapter
                })
            {
                wrong.push(format!("{} sees its sibling {}", source.name, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_contents_lists_the_floors() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("a text");
    let listed: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let floors: Vec<&str> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    assert_eq!(listed, floors, "src/lib.rs lists every module in floor order");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    let mut all = files(&root().join("src"), "rs");
    for folder in ["tests", "benches", "examples"] {
        all.extend(files(&root().join(folder), "rs"));
    }
    for path in all {
        let text = fs::read_to_string(&path).expect("a text");
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {LINES_MAX}", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: the first line is not a //! sentence", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What must not appear in which files, and why.
#[test]
fn absences_that_architecture_promises() {
    let waits = ["session/meter.rs", "session/read_only.rs", "session/task.rs", "session/task/asked.rs"];
    let pure = |name: &str| name.starts_with("session/") && !waits.contains(&name);
    let everywhere = |_: &str| true;
    let not_env = |name: &str| name != "env.rs";
    let below_http = |name: &str| !matches!(name.split(['/', '.']).next(), Some("http" | "server" | "main"));
    type Rule<'a> = (&'a str, &'a dyn Fn(&str) -> bool, &'a str);
    let rules: [Rule<'_>; 12] = [
        ("async ", &pure, "the session machine is pure"),
        ("tokio", &pure, "the session machine is pure"),
        (".await", &pure, "the session machine is pure"),
        ("SystemTime", &not_env, "only env.rs reads the wall clock"),
        ("Env::now", &pure, "time is an argument of the machine"),
        ("getrandom", &not_env, "only env.rs has randomness"),
        ("tokio::spawn", &everywhere, "tasks are spawned on the tracker that waits for them"),
        ("broadcast", &everywhere, "readers pull by cursor; there is no queue per reader"),
        ("axum::response::sse", &everywhere, "frames are encoded once"),
        ("axum::", &below_http, "only the doors and the server know axum"),
        ("static mut", &everywhere, "no global state"),
        ("lazy_static", &everywhere, "no global state"),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        for (line, code) in source.code() {
            for (needle, applies, why) in &rules {
                if applies(&source.name) && code.contains(needle) && !allowed(&source.name, needle) {
                    wrong.push(format!("{}:{line}: {needle}: {why}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `session.rs` is the handle, not the machine.
fn allowed(name: &str, needle: &str) -> bool {
    name == "session.rs" && matches!(needle, "async " | "tokio" | ".await")
}

#[test]
fn the_one_wait_is_in_one_function() {
    let mut waits = BTreeMap::new();
    for source in sources() {
        let count = source.code().filter(|(_, line)| line.contains("grown.notified()")).count();
        if count > 0 {
            waits.insert(source.name.clone(), count);
        }
    }
    assert_eq!(waits, BTreeMap::from([("log.rs".to_owned(), 1)]));
}

#[test]
fn every_bug_that_the_crash_test_plants_still_has_its_place() {
    let garden = fs::read_to_string(root().join("tests/torture/plants.toml")).expect("the plants");
    let garden: toml::Table = garden.parse().expect("TOML");
    let edits = garden["plant"].as_array().expect("plants").iter();
    let edits = edits.flat_map(|plant| plant["edit"].as_array().expect("edits").iter().map(move |edit| (plant, edit)));
    let wrong: Vec<_> = edits
        .filter_map(|(plant, edit)| {
            let text = |field: &str| edit[field].as_str().expect("a text");
            let count = fs::read_to_string(root().join(text("file"))).expect("a source").matches(text("find")).count();
            (count != 1).then(|| format!("{}: {} times in {}: {}", plant["name"], count, text("file"), text("find")))
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}
