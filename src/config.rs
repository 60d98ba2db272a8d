//! Everything that can be set: a TOML file, then the environment and the command line over it, checked once.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{event::Durability, http::Origins, provider::openai, session::state::OnCrash, store::disk};

mod admin;
mod connections;
mod keys;
mod limits;
mod logs;

pub use admin::Admin;
pub use connections::Connections;
pub use keys::ApiKey;
pub use limits::{Limits, TenantLimits};
pub use logs::LogFormat;

/// The configuration of a server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where logs live: `memory`, or `disk:FOLDER`.
    pub store: String,
    /// What of a log on disk survives what: `os` or `fsync`.
    pub durability: DiskDurability,
    /// Keys that open, by name; with none of them everybody may do everything.
    #[serde(deserialize_with = "keys::keys_only")]
    pub keys: BTreeMap<String, ApiKey>,
    /// Listen on other addresses than loopback also where there are no keys.
    pub allow_anonymous: bool,
    /// Model servers by name; their models appear as `NAME/MODEL`.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Bounds.
    pub limits: Limits,
    /// Bounds of each tenant.
    pub tenant_limits: TenantLimits,
    /// Names that the server may be asked for, besides those of loopback. Without any, a server on loopback that
    /// has no keys answers to those alone, and any other server to all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may use the API, besides the server's own, as browsers write them (`https://app.example`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// The certificate of the server's own. Without it it speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Bounds of connections.
    pub connections: Connections,
    /// The operator's listener.
    pub admin: Admin,
    /// How logs are written: `text` or `json`.
    pub log_format: LogFormat,
    /// What becomes of a run whose process is gone: `continue` or `fail`.
    pub on_crash: OnCrash,
    /// Seconds that running generations may go on after SIGTERM.
    pub drain_grace_s: u64,
    /// Seconds over which readers that are told to come back are spread, so that the next server is not stormed.
    pub drain_spread_s: u64,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file: the certificate first, then those that lead to a root.
    pub cert: PathBuf,
    /// PEM file: its private key (PKCS#8, PKCS#1 or SEC1), not encrypted.
    pub key: PathBuf,
}

/// What of a log on disk survives what. Either way nothing that was shown is lost with the process, and nothing that
/// somebody was told to rely on (receipts, approvals, tool starts, ends of runs) is lost with the machine's power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskDurability {
    /// A power cut may take the last moments of an answer that is being written; its readers are told.
    #[default]
    Os,
    /// Every event is on the disk before it is shown.
    Fsync,
}

impl std::str::FromStr for DiskDurability {
    type Err = ConfigError;
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "os" => Ok(Self::Os),
            "fsync" => Ok(Self::Fsync),
            _ => Err(ConfigError(format!("durability = {text:?}: it is os or fsync"))),
        }
    }
}

/// Where logs live.
#[derive(Clone, Debug)]
pub enum StoreKind {
    /// In the process, and nowhere else.
    Memory,
    /// In a folder.
    Disk(disk::Config),
}

/// An OpenAI-compatible model server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its base URL, with the `/v1`.
    pub url: String,
    /// Name of the environment variable that holds its key. A key itself is never in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Seconds to connect, TLS included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<u64>,
    /// Seconds from then to the headers. A busy llama.cpp sends none before a slot is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_timeout_s: Option<u64>,
    /// Seconds from the headers to the first event with data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_timeout_s: Option<u64>,
    /// Seconds from one event with data to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_timeout_s: Option<u64>,
    /// Bytes of one of its answers on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes_max: Option<u64>,
    /// Whether its models go on within an unfinished answer: `auto`, `yes` or `no`.
    #[serde(default)]
    pub prefill: openai::PrefillSetting,
}

impl Upstream {
    /// An upstream with the usual limits.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key_env: None,
            connect_timeout_s: None,
            headers_timeout_s: None,
            first_event_timeout_s: None,
            stall_timeout_s: None,
            answer_bytes_max: None,
            prefill: openai::PrefillSetting::default(),
        }
    }

    /// The adapter's bounds.
    pub fn limits(&self) -> openai::Limits {
        let usual = openai::Limits::default();
        let seconds = |set: Option<u64>, usual| set.map_or(usual, Duration::from_secs);
        openai::Limits {
            connect: seconds(self.connect_timeout_s, usual.connect),
            headers: seconds(self.headers_timeout_s, usual.headers),
            first_event: seconds(self.first_event_timeout_s, usual.first_event),
            between_events: seconds(self.stall_timeout_s, usual.between_events),
            answer_bytes: self.answer_bytes_max.unwrap_or(usual.answer_bytes),
            ..usual
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            store: "disk:steerage-data".into(),
            durability: DiskDurability::Os,
            keys: BTreeMap::new(),
            allow_anonymous: false,
            upstreams: BTreeMap::new(),
            limits: Limits::default(),
            tenant_limits: TenantLimits::default(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            tls: None,
            connections: Connections::default(),
            admin: Admin::default(),
            log_format: LogFormat::default(),
            on_crash: OnCrash::default(),
            drain_grace_s: 20,
            drain_spread_s: 10,
        }
    }
}

/// Why a configuration cannot be used; the text names the file and the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Whether something in the file can be called that.
fn is_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(valid)
}

impl Config {
    /// The usual settings, with sessions that live as long as the process and leave nothing behind.
    pub fn in_memory() -> Self {
        Self { store: "memory".into(), ..Self::default() }
    }

    /// Reads a TOML file. An unknown key is an error that names it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        // The error by itself would show the line, and somebody may have written a key there.
        let shown = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            ConfigError(format!("{}, line {line}: {}", path.display(), error.message()))
        };
        toml::from_str(&text).map_err(shown)
    }

    /// Adds `NAME=URL`.
    pub fn add_upstream(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad =
            || ConfigError(format!("--upstream {text}: write NAME=URL, for instance local=http://127.0.0.1:8080/v1"));
        let (name, url) = text.split_once('=').ok_or_else(bad)?;
        self.upstreams.insert(name.trim().to_owned(), Upstream::new(url.trim()));
        Ok(())
    }

    /// The name of the variable that holds an upstream's key: as configured, else `STEERAGE_NAME_API_KEY`.
    pub fn api_key_variable(name: &str, upstream: &Upstream) -> String {
        let conventional = || format!("STEERAGE_{}_API_KEY", name.to_ascii_uppercase().replace('-', "_"));
        upstream.api_key_env.clone().unwrap_or_else(conventional)
    }

    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError(text));
        self.store()?;
        let is_guarded = !self.keys()?.is_empty();
        if !self.listens_on_loopback() && !is_guarded && !self.allow_anonymous {
            return fail(format!(
                "listen = {}: whoever reaches this address could use every session. Add a key ([keys.NAME] in the file, \
                 --api-key or STEERAGE_API_KEY; `steerage key` makes one), listen on loopback, or say that this is meant: \
                 allow_anonymous = true, --allow-anonymous",
                self.listen
            ));
        }
        for (name, upstream) in &self.upstreams {
            if !is_name(name) {
                return fail(format!("upstream {name:?}: a name is 1 to 32 of a-z 0-9 - _"));
            }
            if name == "demo" {
                return fail("upstream \"demo\": the name belongs to the built-in provider".into());
            }
            if !(upstream.url.starts_with("http://") || upstream.url.starts_with("https://")) {
                return fail(format!("upstream {name}: {:?} is not an http:// or https:// URL", upstream.url));
            }
            let openai::Limits { connect, headers, first_event, between_events, .. } = upstream.limits();
            if [connect, headers, first_event, between_events].contains(&Duration::ZERO) {
                return fail(format!("upstream {name}: a timeout is at least 1 second"));
            }
        }
        if let Some(host) = self.allowed_hosts.iter().find(|host| {
            host.is_empty() || host.bytes().any(|b| !(b.is_ascii_alphanumeric() || b".-_[]:".contains(&b)))
        }) {
            return fail(format!("allowed_hosts: {host:?} is not a name, for instance chat.example (without a port)"));
        }
        if self.tls.is_some() && !cfg!(feature = "tls") {
            return fail("tls: this build has no TLS (feature `tls`)".into());
        }
        self.origins()?;
        self.connections.check().map_err(ConfigError)?;
        self.admin.check()?;
        self.limits.check()
    }

    /// The store that is named.
    pub fn store(&self) -> Result<StoreKind, ConfigError> {
        if self.store == "memory" {
            return Ok(StoreKind::Memory);
        }
        match self.store.strip_prefix("disk:").filter(|path| !path.is_empty()) {
            Some(path) => {
                let durability = match self.durability {
                    DiskDurability::Os => Durability::Os,
                    DiskDurability::Fsync => Durability::Fsync,
                };
                Ok(StoreKind::Disk(disk::Config { path: path.into(), durability }))
            }
            None => Err(ConfigError(format!("store = {:?}: it is memory or disk:FOLDER", self.store))),
        }
    }

    /// Whether it matters by which name the server is asked for. Behind an address that is not loopback names are the
    /// operator's, and a page that has no key gets nothing anyhow.
    pub fn hosts_checked(&self) -> bool {
        !self.allowed_hosts.is_empty() || (self.listens_on_loopback() && self.keys.is_empty())
    }

    /// The pages that may use the API.
    pub fn origins(&self) -> Result<Origins, ConfigError> {
        let no = |bad| ConfigError(format!("allowed_origins: {bad:?} is not an origin, such as https://app.example"));
        Origins::new(&self.allowed_origins, self.tls.is_some()).map_err(no)
    }

    fn listens_on_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// How long running generations may go on after a stop.
    pub fn drain_grace(&self) -> Duration {
        Duration::from_secs(self.drain_grace_s)
    }

    /// As TOML, in full. There are no secrets in it, only the names of variables that hold them.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Config>("listn = \"127.0.0.1:1\"").unwrap_err();
        assert!(error.to_string().contains("listn"), "{error}");
    }

    #[test]
    fn the_defaults_are_valid_and_survive_the_round_trip() {
        let config = Config::default();
        assert_eq!(config.check(), Ok(()));
        let again: Config = toml::from_str(&config.to_toml()).unwrap();
        assert_eq!(again.to_toml(), config.to_toml());
    }

    #[test]
    fn what_becomes_of_runs_and_unfinished_answers_is_set_in_words() {
        let text = "on_crash = \"fail\"\n[upstreams.local]\nurl = \"http://x/v1\"\nprefill = \"no\"";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(
            (config.registry().session.on_crash, Config::default().on_crash),
            (OnCrash::Fail, OnCrash::Continue)
        );
        assert_eq!(config.upstreams["local"].prefill, openai::PrefillSetting::No);
        assert!(toml::from_str::<Config>("on_crash = \"retry\"").unwrap_err().to_string().contains("on_crash"));
    }

    #[test]
    fn names_matter_on_loopback_without_keys_and_where_some_are_listed() {
        let config = |listen: &str, hosts: &[&str], key: bool| {
            let allowed_hosts = hosts.iter().map(|&host| host.to_owned()).collect();
            let mut config = Config { listen: listen.parse().unwrap(), allowed_hosts, ..Config::in_memory() };
            if key {
                config.add_key("0123456789abcdef").unwrap();
            }
            config.hosts_checked()
        };
        assert!(config("127.0.0.1:1", &[], false) && config("[::1]:1", &[], false));
        assert!(config("[::ffff:127.0.0.1]:1", &[], false));
        assert!(config("127.0.0.1:1", &["a"], true) && config("192.0.2.1:1", &["a"], true));
        assert!(!config("127.0.0.1:1", &[], true) && !config("192.0.2.1:1", &[], false));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().0
        };
        assert!(with(|c| c.listen = "0.0.0.0:80".parse().unwrap()).contains("loopback"));
        assert!(with(|c| c.listen = "[::]:80".parse().unwrap()).contains("steerage key"));
        assert!(with(|c| c.store = "tape".into()).contains("tape"));
        assert!(with(|c| c.store = "disk:".into()).contains("disk:FOLDER"));
        assert!(with(|c| c.connections.max = 0).contains("connections.max"));
        assert!(with(|c| c.connections.send_buffer_bytes = 1).contains("send_buffer_bytes"));
        assert!(with(|c| c.limits.steps_max = 0).contains("steps_max"));
        assert!(with(|c| c.limits.bytes_max = 8_388_607).contains("limits.bytes_max is at least 8388608"));
        assert!(with(|c| c.add_upstream("demo=http://x/v1").unwrap()).contains("demo"));
        assert!(with(|c| c.add_upstream("A=http://x/v1").unwrap()).contains("a-z"));
        assert!(with(|c| c.add_upstream("a=ftp://x").unwrap()).contains("http://"));
        assert!(Config::default().add_upstream("nothing").is_err());
    }
}
