//! A build without TLS has no certificate: [`Config::check`](crate::Config::check) refuses one before.

use std::{convert::Infallible, io};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Duration,
};

use crate::config::{self, ConfigError};

/// There is none.
pub(super) struct Tls(Infallible);

impl Tls {
    pub(super) fn new(_: &config::Tls) -> Result<Self, ConfigError> {
        Err(ConfigError("this build has no TLS (feature `tls`)".into()))
    }

    pub(super) fn reload(&self) -> Result<(), ConfigError> {
        match self.0 {}
    }

    pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(&self, _: T, _: Duration) -> io::Result<T> {
        match self.0 {}
    }
}
