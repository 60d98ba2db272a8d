//! The operator's own listener: where it is, and what opens it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::auth::{Caller, KeyDigest, Keys};

/// The listener for `/metrics` and for a readiness that can be asked while the server drains. Off by default.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where to listen; nowhere without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// SHA-256 of the key that opens it, 64 hexadecimal digits, as `steerage key` prints it. Without one whoever reaches
    /// the address may look, so it has to be loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Admin {
    /// Whether it makes sense.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_guarded = !self.keys()?.is_empty();
        match self.listen {
            Some(listen) if !is_guarded && !listen.ip().to_canonical().is_loopback() => Err(ConfigError(format!(
                "admin.listen = {listen}: whoever reaches this address could read what the server does. Listen on \
                 loopback, or add a key: admin.sha256 in the file (`steerage key` makes one), --admin-key or \
                 STEERAGE_ADMIN_KEY"
            ))),
            _ => Ok(()),
        }
    }

    /// The key, as it is looked into; none where everybody on loopback may look.
    pub fn keys(&self) -> Result<Keys, ConfigError> {
        let mut keys = Keys::default();
        if let Some(sha256) = &self.sha256 {
            // Whoever takes it for the key itself must not find it in a log.
            let rule = "admin.sha256 is 64 hexadecimal digits, as `steerage key` prints them; the key itself is not \
                        written here";
            let digest = KeyDigest::from_hex(sha256).ok_or_else(|| ConfigError(rule.into()))?;
            keys.add(digest, Caller { name: "admin".into(), ..Caller::default() });
        }
        Ok(keys)
    }
}

impl Config {
    /// Sets the admin's key. A refusal never repeats it.
    pub fn set_admin_key(&mut self, key: &str) -> Result<(), ConfigError> {
        let digest = KeyDigest::of(key).map_err(|rule| ConfigError(format!("--admin-key: {rule}")))?;
        self.admin.sha256 = Some(digest.hex());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_listens_where_others_reach_it_only_with_a_key() {
        let config = |text: &str| toml::from_str::<Config>(text).unwrap();
        for loopback in ["127.0.0.1:9464", "[::1]:9464", "[::ffff:127.0.0.1]:9464"] {
            assert_eq!(config(&format!("admin.listen = \"{loopback}\"")).check(), Ok(()));
        }
        let mut open = config("admin.listen = \"0.0.0.0:9464\"");
        assert!(open.check().unwrap_err().0.contains("admin.listen"));
        // That the API may be used by everybody says nothing about the operator's doors.
        open.allow_anonymous = true;
        assert!(open.check().is_err());
        open.set_admin_key("0123456789abcdef").unwrap();
        assert_eq!(open.check(), Ok(()));
        assert!(open.admin.keys().unwrap().caller("0123456789abcdef").is_some());
        assert!(!open.to_toml().contains("0123456789abcdef"));
    }

    #[test]
    fn what_may_be_the_key_is_not_repeated() {
        let written = toml::from_str::<Config>("admin.sha256 = \"sk_secret-secret\"").unwrap().check().unwrap_err().0;
        assert!(written.contains("admin.sha256") && !written.contains("secret"), "{written}");
        let short = Config::default().set_admin_key("short-secret").unwrap_err().0;
        assert!(short.contains("--admin-key") && !short.contains("secret"), "{short}");
    }
}
