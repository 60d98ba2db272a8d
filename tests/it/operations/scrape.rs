//! What `/metrics` says, read by somebody who knows the text format and nothing of the server.

use std::collections::BTreeMap;

use crate::support::TestServer;

/// Every sample by its name with its labels, as it is written.
pub(crate) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks, and holds the text against its format.
    pub(crate) async fn of(server: &TestServer) -> Self {
        let answer = server.admin().get("/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
        Self::read(&String::from_utf8(answer.body).expect("UTF-8"))
    }

    fn read(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("it ends with its end");
        let mut samples = BTreeMap::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                family = described.split(' ').next().expect("a name").to_owned();
                assert!(family.starts_with("steerage_"), "{line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                assert!(name.starts_with(&family), "{line} is not of {family}");
                let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(samples.insert(name.to_owned(), value), None, "{name} twice");
            }
        }
        Self(samples)
    }

    /// The value of one, without `steerage_`.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let sample = self.0.get(&format!("steerage_{name}"));
        *sample.unwrap_or_else(|| panic!("no {name} in {:#?}", self.0.keys()))
    }
}
