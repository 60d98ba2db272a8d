//! The API document and the code say the same: routes, codes, words, limits, and every byte that the server answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;
use steerage::http::error::CODES;

use crate::support::TestServer;

mod live;
mod words;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi").join(name)
}

/// The document as people write it.
fn document() -> Value {
    let text = std::fs::read_to_string(file("openapi.yaml")).expect("the document");
    serde_yaml_ng::from_str(&text).expect("the document is YAML with a JSON value")
}

fn strings(value: &Value) -> BTreeSet<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("a list, not {value}"));
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every method of every path, with what the document says of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(path, item): (&String, &Value)| {
        let path = path.clone();
        let has = |method: &&str| item.get(*method).is_some();
        let methods: Vec<_> = METHODS.into_iter().filter(has).map(|m| (m, item[m].clone())).collect();
        methods.into_iter().map(move |(method, operation)| (method.to_owned(), path.clone(), operation))
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn the_served_json_is_the_yaml() {
    let json = serde_json::to_string_pretty(&document()).expect("plain JSON") + "\n";
    if std::env::var_os("STEERAGE_UPDATE_OPENAPI").is_some() {
        std::fs::write(file("openapi.json"), &json).expect("the file can be written");
    }
    let served = std::fs::read_to_string(file("openapi.json")).expect("the served document");
    assert!(served == json, "openapi.json is not openapi.yaml: run this test with STEERAGE_UPDATE_OPENAPI=1");
}

#[test]
fn the_document_is_of_this_version_and_every_reference_leads_somewhere() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let text = document.to_string();
    let named = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
    let named: BTreeSet<_> = named.collect();
    for name in &named {
        assert!(schemas.contains_key(*name), "{name} is used and not described");
    }
    // What a socket carries is described to people: OpenAPI has no place for it.
    let of_sockets =
        ["SocketMessage", "ChatSocketRequest", "ChatSocketMessage", "ResponseSocketRequest", "ResponseSocketMessage"];
    for name in schemas.keys().filter(|name| !of_sockets.contains(&name.as_str())) {
        assert!(named.contains(name.as_str()), "{name} is described and not used");
    }
}

/// Paths and methods as `src/http.rs` and `src/http/openai.rs` list them: these screens of routes are the source.
fn routes() -> BTreeMap<String, BTreeSet<String>> {
    let sources = [include_str!("../../src/http.rs"), include_str!("../../src/http/openai.rs")];
    let routes = sources.iter().flat_map(|source| source.split(".route(\"").skip(1)).map(|rest| {
        let (path, rest) = rest.split_once('"').expect("a path");
        let handlers = rest.lines().next().unwrap_or_default();
        let has = |method: &&str| handlers.contains(&format!("{method}("));
        // A name with slashes is still one name.
        (path.replace("{*", "{"), METHODS.into_iter().filter(has).map(str::to_owned).collect())
    });
    routes.collect()
}

/// Whether a door answers in OpenAI's envelope.
fn is_of_openai(path: &str) -> bool {
    ["/v1/chat/", "/v1/responses", "/v1/models"].iter().any(|prefix| path.starts_with(prefix))
}

/// A path with names of nothing in it.
fn filled(path: &str) -> String {
    let fill = |part: &str| if part.starts_with('{') { "nobody".to_owned() } else { part.to_owned() };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[test]
fn the_document_has_the_routes_and_no_others() {
    let mut documented = BTreeMap::<String, BTreeSet<String>>::new();
    for (method, path, _) in operations(&document()) {
        documented.entry(path).or_default().insert(method);
    }
    assert_eq!(documented, routes());
}

#[tokio::test(start_paused = true)]
async fn a_method_is_allowed_when_it_is_documented() {
    let server = TestServer::start();
    let client = server.client();
    let document = document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in METHODS {
            let path = filled(path);
            let answer = client.request(&method.to_uppercase(), &path, &[], b"").await;
            let allowed = answer.status != 405;
            assert_eq!(allowed, item.get(method).is_some(), "{method} {path} answered {}", answer.status);
            if !allowed {
                match is_of_openai(&path) {
                    true => assert_eq!(answer.json()["error"]["code"], "method_not_allowed"),
                    false => assert_eq!(answer.code(), "method_not_allowed"),
                }
                assert!(answer.headers.contains_key("allow"), "{method} {path}: 405 without Allow (RFC 9110, 15.5.6)");
            }
        }
    }
    assert_eq!(client.get("/nowhere").await.code(), "not_found");
}

#[test]
fn the_codes_are_those_of_the_code_each_under_its_status() {
    let document = document();
    let known: BTreeMap<&str, u16> = CODES.into_iter().collect();
    let listed = strings(&document["components"]["schemas"]["ProblemCode"]["enum"]);
    assert_eq!(listed, known.keys().map(|code| (*code).to_owned()).collect());
    // Given by the router for what is no door, and before there is a door.
    let mut given = BTreeSet::from(["not_found", "method_not_allowed", "foreign_host"].map(str::to_owned));
    for (method, path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let problem = &response["content"]["application/problem+json"]["schema"];
            if is_of_openai(&path) {
                refusals_of_openai(&format!("{method} {path}"), status, response, &known);
                continue;
            }
            if problem.is_null() {
                let plain = response["content"]["text/plain"].is_object() && path.starts_with("/v1/ai-sdk/");
                let is_problem = status.as_str() >= "400" && path != "/readyz";
                assert_eq!(plain, is_problem, "{method} {path}: {status} is no problem");
                assert!(
                    !plain || known.values().any(|known| known.to_string() == *status),
                    "{method} {path}: {status}"
                );
                continue;
            }
            assert_eq!(problem["$ref"], "#/components/schemas/Problem");
            for code in strings(&problem["properties"]["code"]["enum"]) {
                assert_eq!(known[code.as_str()].to_string(), *status, "{method} {path}: {code}");
                given.insert(code);
            }
        }
    }
    assert_eq!(given, listed, "a code that no door gives");
}

/// These answer 400 where others answer 409 and 422, which the SDKs would try again, and 404 for a model.
fn refusals_of_openai(door: &str, status: &str, response: &Value, known: &BTreeMap<&str, u16>) {
    let schema = &response["content"]["application/json"]["schema"];
    if status < "400" {
        return;
    }
    assert!(response["headers"]["X-Request-Id"].is_object(), "{door}: {status}");
    assert_eq!(schema["$ref"], "#/components/schemas/ApiRefusal", "{door}: {status}");
    for code in strings(&schema["properties"]["error"]["properties"]["code"]["enum"]) {
        let of_problem = known.get(code.as_str()).map(|status| match status {
            409 | 422 => "400".to_owned(),
            // In a body, and not in the path.
            404 if code.starts_with("unknown_") => "400".to_owned(),
            status => status.to_string(),
        });
        assert!(of_problem.is_none_or(|known| known == status), "{door}: {code} under {status}");
    }
}
