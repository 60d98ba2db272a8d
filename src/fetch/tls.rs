//! The connector of a build with TLS: rustls with aws-lc-rs and the machine's certificates, HTTP/1.1 only.

use std::sync::Arc;

use hyper::{Uri, http::uri::Scheme};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, crypto::aws_lc_rs};
use tokio::sync::OnceCell;
use tower::{Service, ServiceExt as _};

use super::{FetchError, causes, words};

pub(super) type Stream = MaybeHttpsStream<<HttpConnector as Service<Uri>>::Response>;

/// The configuration, made when the first `https` URL is asked: a machine without certificates can ask the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<OnceCell<Arc<ClientConfig>>>);

impl Shared {
    pub(super) async fn connect(&self, http: HttpConnector, uri: Uri) -> Result<Stream, FetchError> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let plain = http.oneshot(uri).await.map_err(|error| FetchError::Connect(words(&error)))?;
            return Ok(MaybeHttpsStream::Http(plain));
        }
        let config = self.0.get_or_try_init(configure).await?;
        HttpsConnector::from((http, config.clone())).oneshot(uri).await.map_err(|error| {
            // A handshake that the other side cut off is no verdict of ours about its certificate.
            let refused = causes(&*error).any(|cause| cause.is::<rustls::Error>());
            let words = words(&*error);
            if refused { FetchError::Tls(words) } else { FetchError::Connect(words) }
        })
    }
}

/// Reads the machine's certificates: tens of milliseconds of file access, hence off the runtime's threads.
async fn configure() -> Result<Arc<ClientConfig>, FetchError> {
    let made = tokio::task::spawn_blocking(|| {
        // The provider is named, so that no process-wide default has to be installed first.
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Tls(error.to_string()))?
            .with_native_roots()
            .map_err(|error| FetchError::Tls(format!("cannot read this machine's certificates: {error}")))?
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    });
    made.await.unwrap_or_else(|_| Err(FetchError::Tls("cannot read this machine's certificates".into())))
}
