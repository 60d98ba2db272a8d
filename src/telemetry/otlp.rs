//! Sends spans to a collector by OTLP over HTTP, as the standard variables say (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin,
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>). The requests are made with the client that asks
//! upstreams, so that no second HTTP stack is built in.

use std::{fmt, pin::Pin, time::Duration};

use bytes::Bytes;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::{
    fetch::{self, FetchError},
    trace::Tracer,
};

/// The variables of which one says where the collector is. Without them nothing is made and nothing is sent.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// What the service is called unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "steerage";
/// A collector's answer: it says which spans it did not take, in some words.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest that a collector may take to answer: the standard's default.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Sends spans until it is shut down.
pub struct Spans {
    provider: SdkTracerProvider,
    tracker: TaskTracker,
}

impl Spans {
    /// As the environment says. `None` where it names no collector. Called inside a tokio runtime.
    pub fn from_env() -> Result<Option<Self>, String> {
        let named = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !ENDPOINTS.iter().any(named) {
            return Ok(None);
        }
        let tracker = TaskTracker::new();
        let limits = fetch::Limits { headers: ANSWER_MAX, ..fetch::Limits::default() };
        let client = Client { fetch: fetch::Client::new(limits), runtime: Handle::current(), tracker: tracker.clone() };
        let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
        let exporter = exporter.map_err(|error| format!("spans cannot be sent: {error}"))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Some(Self { provider, tracker }))
    }

    /// Makes the spans that are sent.
    pub fn tracer(&self) -> Tracer {
        Tracer::new(self.provider.tracer(SERVICE))
    }

    /// Sends what is left, and ends.
    pub async fn shut_down(self) {
        let Self { provider, tracker } = self;
        // It waits for its own thread, which waits for a request of this runtime.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "not all spans could be sent");
        }
        tracker.close();
        tracker.wait().await;
    }
}

/// The exporter works on a thread of its own without a runtime: its requests are done here, and it waits.
struct Client {
    fetch: fetch::Client,
    runtime: Handle,
    tracker: TaskTracker,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A header may hold a collector's key.
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let fetch = self.fetch.clone();
        let sending = self.tracker.spawn_on(async move { send(&fetch, request).await }, &self.runtime);
        Box::pin(async move {
            let answer = sending.await.map_err(HttpError::from)?;
            answer.map_err(|error| {
                tracing::warn!(%error, "spans could not be sent");
                HttpError::from(error)
            })
        })
    }
}

async fn send(fetch: &fetch::Client, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
    let mut answer = fetch.send(request).await?;
    let reading = tokio::time::timeout(ANSWER_MAX, answer.body.read(ANSWER_BYTES_MAX)).await;
    let (body, _) = reading.map_err(|_| FetchError::HeadersTimeout(ANSWER_MAX))??;
    if !answer.status.is_success() {
        tracing::warn!(status = answer.status.as_u16(), "the collector did not take spans");
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}
