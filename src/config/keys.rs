//! The API keys of a configuration. Only digests are in it, and no refusal repeats what may be a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, is_name};
use crate::{
    auth::{Caller, KeyDigest, Keys, RESERVED},
    id::Tenant,
};

/// An API key. The key itself is never in the file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Its SHA-256, 64 hexadecimal digits, as `steerage key` prints it.
    pub sha256: String,
    /// Whose sessions it opens.
    #[serde(default)]
    pub tenant: Tenant,
}

/// Reads the keys. What is wrong there may be a key itself, so the refusal repeats nothing of it.
pub(super) fn keys_only<'de, D: serde::Deserializer<'de>>(d: D) -> Result<BTreeMap<String, ApiKey>, D::Error> {
    let rule = "a key is [keys.NAME] with sha256 = \"64 hexadecimal digits\" and perhaps tenant = \"NAME\"";
    let tables = BTreeMap::<String, toml::Value>::deserialize(d)?;
    let key = |(name, table): (String, toml::Value)| {
        let key = table.try_into().map_err(|_| serde::de::Error::custom(rule))?;
        Ok((name, key))
    };
    tables.into_iter().map(key).collect()
}

impl Config {
    /// Adds a key of the tenant `default`, under the first free name of `key-1`, `key-2`… A refusal never repeats it.
    pub fn add_key(&mut self, key: &str) -> Result<(), ConfigError> {
        let digest = KeyDigest::of(key).map_err(|rule| ConfigError(format!("--api-key: {rule}")))?;
        let names = (1..).map(|n| format!("key-{n}"));
        let name = names.into_iter().find(|name| !self.keys.contains_key(name)).expect("a number is free");
        self.keys.insert(name, ApiKey { sha256: digest.hex(), tenant: Tenant::default() });
        Ok(())
    }

    /// The keys, as they are looked into.
    pub fn keys(&self) -> Result<Keys, ConfigError> {
        let mut keys = Keys::default();
        for (name, ApiKey { sha256, tenant }) in &self.keys {
            let fail = |why: &str| Err(ConfigError(format!("keys.{name}: {why}")));
            if !is_name(name) || RESERVED.contains(&name.as_str()) {
                return fail("a name is 1 to 32 of a-z 0-9 - _, and none of anonymous, server, session_scope");
            }
            // Whoever takes it for the key itself must not find it in a log.
            let Some(digest) = KeyDigest::from_hex(sha256) else {
                return fail(
                    "sha256 is 64 hexadecimal digits, as `steerage key` prints them; the key itself is not written here",
                );
            };
            if !keys.add(digest, Caller::with_key(tenant.clone(), name.as_str().into())) {
                return fail("this key has another name already");
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_file_is_refused_and_not_repeated() {
        let path = std::env::temp_dir().join(format!("steerage-keys-{}.toml", std::process::id()));
        for text in ["[keys]\na = \"sk_secret\"", "[keys.a]\nkey = \"sk_secret\"", "[keys.a]\nsha256 = [\"sk_secret\"]"]
        {
            std::fs::write(&path, text).unwrap();
            let error = Config::read(&path).unwrap_err().0;
            assert!(error.contains("[keys.NAME]") && !error.contains("secret"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn keys_are_read_and_open_an_address_for_everybody() {
        let hex = "0".repeat(64);
        let text = format!(
            "listen = \"0.0.0.0:80\"\n[keys.me]\nsha256 = \"{hex}\"\ntenant = \"acme\"\n[keys.ci]\nsha256 = \"{}\"",
            hex.replacen('0', "1", 1)
        );
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!((config.keys["me"].tenant.as_str(), config.keys["ci"].tenant.as_str()), ("acme", "default"));
        assert_eq!(config.check(), Ok(()));
        let open = Config { listen: config.listen, allow_anonymous: true, ..Config::default() };
        assert_eq!(open.check(), Ok(()));
    }

    #[test]
    fn what_is_no_key_is_refused_by_name_and_not_repeated() {
        let refused = |keys: &[(&str, &str)]| {
            let mut config = Config::default();
            for (name, sha256) in keys {
                config.keys.insert((*name).into(), ApiKey { sha256: (*sha256).into(), tenant: Tenant::default() });
            }
            config.check().unwrap_err().0
        };
        let hex = "0".repeat(64);
        assert!(refused(&[("A", &hex)]).contains("a-z"));
        assert!(refused(&[("anonymous", &hex)]).contains("anonymous"));
        assert!(refused(&[("a", &hex), ("b", &hex)]).contains("keys.b: this key has another name"));
        let written = refused(&[("a", "sk_secret-secret")]);
        assert!(written.contains("keys.a: sha256") && !written.contains("secret"), "{written}");
        let short = Config::default().add_key("short-secret").unwrap_err().0;
        assert!(short.contains("16 to 256") && !short.contains("secret"), "{short}");
    }
}
