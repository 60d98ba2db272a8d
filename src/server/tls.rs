//! TLS of the server's own: a certificate chain and its key from PEM files, HTTP/2 or HTTP/1.1 by ALPN (RFC 7301), read
//! again when asked to. Connections that are there keep the certificate they began with.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Duration, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::{self, ConfigError};

/// A certificate that is shown to everyone.
pub(super) struct Tls {
    files: config::Tls,
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads the files.
    pub(super) fn new(files: &config::Tls) -> Result<Self, ConfigError> {
        let shown = Arc::new(Shown(Mutex::new(read(files)?)));
        // The provider is named, so that no process-wide default has to be installed first.
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { files: files.clone(), shown, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads the files again. Where they cannot be used, what is shown stays.
    pub(super) fn reload(&self) -> Result<(), ConfigError> {
        let read = read(&self.files)?;
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Shakes hands, for at most that long.
    pub(super) async fn accept<T>(&self, io: T, longest: Duration) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        timeout(longest, self.acceptor.accept(io)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The chain and the key, which belong together.
fn read(files: &config::Tls) -> Result<Arc<CertifiedKey>, ConfigError> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| ConfigError(format!("{}: {error}", path.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, &"there is no certificate in it (PEM)"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, &error))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    certified.map(Arc::new).map_err(|error| wrong(&files.cert, &error))
}
