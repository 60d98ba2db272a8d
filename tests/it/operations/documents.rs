//! The operator's documents say what is: every setting with its default, every metric.

use std::{collections::BTreeSet, fs};

use steerage::{Config, metrics::Metrics};

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a document")
}

/// The keys that a table of the file may have, as a refusal of a wrong one lists them.
fn keys_of(table: &str) -> Vec<String> {
    let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let error = toml::from_str::<Config>(&format!("{header}no_such_key = 1")).expect_err("no such key").to_string();
    let (_, listed) = error.split_once("expected ").unwrap_or_else(|| panic!("{table}: {error}"));
    let keys: Vec<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(!keys.is_empty(), "{table}: {error}");
    keys
}

/// The file with its examples switched on: what is commented out without a space behind the `#`.
fn switched_on(file: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    file.lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_the_defaults_and_has_every_key() {
    let file = read("examples/steerage.toml");
    let config: Config = toml::from_str(&file).expect("it is valid");
    assert_eq!(config.to_toml(), Config::default().to_toml(), "what is not commented out is the default");

    let text = switched_on(&file);
    let all: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(all.check(), Ok(()), "the examples in it are valid");
    let usual = steerage::config::Upstream::new("http://127.0.0.1:8080/v1");
    assert_eq!(all.upstreams["local"].limits(), usual.limits(), "what an upstream's example says is the default");
    let table: toml::Table = text.parse().expect("TOML");
    let has = |table: &toml::Table, path: &str, keys: &[String]| {
        for key in keys {
            assert!(table.contains_key(key), "{path} {key} is not in examples/steerage.toml");
        }
    };
    has(&table, "", &keys_of(""));
    for (name, value) in &table {
        let Some(section) = value.as_table() else { continue };
        match name.as_str() {
            "upstreams" => {
                let (name, one) = section.iter().next().expect("an upstream");
                has(one.as_table().expect("a table"), name, &keys_of(&format!("upstreams.{name}")));
            }
            "keys" => {
                let one = section.values().next().and_then(toml::Value::as_table).expect("a key");
                assert!(one.contains_key("sha256") && one.contains_key("tenant"));
            }
            _ => has(section, name, &keys_of(name)),
        }
    }
    // Every setting says why: a comment is before it or behind it.
    let mut explained = false;
    for line in file.lines() {
        let is_setting = line.contains(" = ") && !line.starts_with("# ");
        assert!(!is_setting || explained || line.contains("  # "), "{line:?} has no word about it");
        explained = line.starts_with("# ") || (explained && is_setting);
    }
}

#[test]
fn every_metric_is_in_the_document_and_every_one_in_the_document_is_there() {
    let text = Metrics::new(["demo"]).text(0, true, false);
    let mut exported = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and its type");
        // As one asks for them: a counter and an info have an ending in every sample.
        exported.insert(match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        });
    }
    let document = read("docs/operations.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `steerage_")?.split_once('`'));
    let described: BTreeSet<String> =
        rows.map(|(name, _)| format!("steerage_{}", name.split('{').next().unwrap())).collect();
    assert_eq!(described, exported);
    // And what the alerts ask for is there, too.
    let asked = document.match_indices("steerage_").map(|(at, _)| {
        let end = document[at..].find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(0);
        &document[at..at + end]
    });
    for name in asked.filter(|name| *name != "steerage_") {
        let known = exported.iter().any(|metric| {
            name == metric || ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{metric}{end}"))
        });
        assert!(known, "{name} is in the document and is not exported");
    }
}
