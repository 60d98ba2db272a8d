//! One HTTP/1.1 request over a connection of its own.
//!
//! The connection is polled inside the future that waits for the answer and inside the body, by whoever reads them: no
//! task runs beside. So dropping either closes the socket before `drop` returns, and a piece of the body costs no wake
//! from one task to another. A connection serves one request: what it costs to open is small beside a generation, and
//! nothing that one request does to it can reach another.
//!
//! What it never does: follow a redirect, use a proxy from the environment, ask for or undo a compression, retry.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Uri,
    body::{Body as _, Incoming},
    client::conn::http1,
    header::{ACCEPT_ENCODING, HOST, HeaderMap, HeaderValue, InvalidHeaderValue},
    http::uri::Scheme,
};
use hyper_util::client::legacy::connect::HttpConnector;
#[cfg(not(feature = "tls"))]
use tower::ServiceExt as _;

#[cfg(feature = "tls")]
mod tls;

/// The most bytes that a connection buffers of an answer, its headers included: twice what servers send as headers at
/// most, and a bound of the memory that a connection can take.
const BUFFER_MAX_BYTES: usize = 64 * 1024;

/// How long to wait for one address family before the other one is tried as well (RFC 8305 §8 recommends 250 ms).
const HAPPY_EYEBALLS: Duration = Duration::from_millis(250);

/// How long the parts of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Name resolution, TCP and TLS together.
    pub connect: Duration,
    /// From then until the headers of the answer.
    pub headers: Duration,
}

impl Default for Limits {
    /// 5 s to connect, which is three lost SYN packets; 30 s to the headers.
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), headers: Duration::from_secs(30) }
    }
}

/// Text that must not be shown: a key or a password. `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A header value of `prefix` and the text, marked so that no one prints it.
    pub fn header(&self, prefix: &str) -> Result<HeaderValue, InvalidHeaderValue> {
        let mut value = HeaderValue::try_from([prefix, &self.0].concat())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a request or its body failed. The texts contain neither the URL nor a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is not one that can be asked; nothing was sent.
    #[error("{0}")]
    BadUrl(&'static str),
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No connection could be made in time.
    #[error("no connection within {} s", .0.as_secs_f32())]
    ConnectTimeout(Duration),
    /// The other side's certificate or its TLS was refused.
    #[error("TLS: {0}")]
    Tls(String),
    /// No headers came in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    HeadersTimeout(Duration),
    /// The connection ended before the answer did.
    #[error("the connection broke: {0}")]
    Disconnected(String),
    /// The answer was not HTTP/1.1.
    #[error("not HTTP: {0}")]
    Protocol(String),
}

/// Makes requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    limits: Limits,
    http: HttpConnector,
    #[cfg(feature = "tls")]
    tls: tls::Shared,
}

/// The head of an answer, and its body to be read.
#[derive(Debug)]
pub struct Response {
    /// 200 and so on.
    pub status: hyper::StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

#[cfg(feature = "tls")]
type Io = tls::Stream;
#[cfg(not(feature = "tls"))]
type Io = <HttpConnector as tower::Service<Uri>>::Response;

impl Client {
    /// A client with these limits. Opens nothing; certificates are read when the first `https` URL is asked.
    pub fn new(limits: Limits) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(limits.connect));
        http.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS));
        Self {
            limits,
            http,
            #[cfg(feature = "tls")]
            tls: tls::Shared::default(),
        }
    }

    /// Sends a request to its absolute `http` or `https` URL and waits for the head of the answer. `host`,
    /// `content-length` and `accept-encoding: identity` are added. Dropping the future closes the connection.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response, FetchError> {
        let uri = std::mem::take(request.uri_mut());
        *request.uri_mut() = origin_form(&uri);
        let host = check(&uri)?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));

        let connect = self.limits.connect;
        let io = match tokio::time::timeout(connect, self.connect(uri)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(FetchError::ConnectTimeout(connect)),
        };
        let headers = self.limits.headers;
        match tokio::time::timeout(headers, exchange(io, request.map(Full::new))).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::HeadersTimeout(headers)),
        }
    }

    #[cfg(feature = "tls")]
    async fn connect(&self, uri: Uri) -> Result<Io, FetchError> {
        self.tls.connect(self.http.clone(), uri).await
    }

    #[cfg(not(feature = "tls"))]
    async fn connect(&self, uri: Uri) -> Result<Io, FetchError> {
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err(FetchError::BadUrl("this build has no TLS (feature `tls`): it can only ask http:// URLs"));
        }
        self.http.clone().oneshot(uri).await.map_err(|error| FetchError::Connect(words(&error)))
    }
}

/// Whether a URL can be asked; gives the `host` header.
fn check(uri: &Uri) -> Result<HeaderValue, FetchError> {
    if !matches!(uri.scheme(), Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) {
        return Err(FetchError::BadUrl("the URL must begin with http:// or https://"));
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(FetchError::BadUrl("the URL has no host"));
    };
    if authority.as_str().contains('@') {
        return Err(FetchError::BadUrl("the URL must not contain a user name or password"));
    }
    HeaderValue::try_from(authority.as_str()).map_err(|_| FetchError::BadUrl("the URL has an odd host"))
}

/// The URL as it stands in the request line.
fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone().into(),
        _ => Uri::from_static("/"),
    }
}

type Connection = http1::Connection<Io, Full<Bytes>>;

/// Sends the request and reads the head of the answer, driving the connection meanwhile.
async fn exchange(io: Io, request: Request<Full<Bytes>>) -> Result<Response, FetchError> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER_MAX_BYTES).handshake(io).await.map_err(|e| broken(&e))?;
    let mut connection = Some(Box::new(connection));
    let mut answer = pin!(sender.send_request(request));
    let answer = poll_fn(|cx| {
        // Its error, if there is one, reaches the answer.
        let _ = drive(&mut connection, cx);
        answer.as_mut().poll(cx)
    });
    let (head, incoming) = answer.await.map_err(|e| broken(&e))?.into_parts();
    Ok(Response { status: head.status, headers: head.headers, body: Body { incoming, connection, failed: None } })
}

/// Lets the connection work; it is gone once it has ended.
fn drive(connection: &mut Option<Box<Connection>>, cx: &mut Context<'_>) -> Result<(), hyper::Error> {
    match connection.as_mut().map(|alive| Pin::new(alive).poll(cx)) {
        Some(Poll::Ready(end)) => {
            *connection = None;
            end
        }
        _ => Ok(()),
    }
}

/// The body of an answer together with its connection: dropping it closes the socket.
pub struct Body {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
    failed: Option<FetchError>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl Body {
    /// The next piece, never empty; `None` at the end. Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, FetchError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// As [`Body::chunk`], for code that is polled itself.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FetchError>>> {
        loop {
            // Asking the body first tells the connection that there is room; what it then reads is taken at once.
            let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
            if polled.is_pending() && self.connection.is_some() {
                if let Err(error) = drive(&mut self.connection, cx) {
                    self.failed = Some(broken(&error));
                }
                polled = Pin::new(&mut self.incoming).poll_frame(cx);
            }
            return match polled {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Poll::Ready(Some(Ok(data))),
                    _ => continue, // Trailers.
                },
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(broken(&error)))),
                Poll::Ready(None) => Poll::Ready(self.failed.take().map(Err)),
            };
        }
    }

    /// The first `limit` bytes of the body, for messages and small documents; the second value tells whether that is
    /// all of it.
    pub async fn read(&mut self, limit: usize) -> Result<(Vec<u8>, bool), FetchError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.chunk().await {
            let piece = piece?;
            let room = limit - bytes.len();
            if piece.len() > room {
                bytes.extend_from_slice(&piece[..room]);
                return Ok((bytes, false));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes, true))
    }
}

/// Sorts what hyper reports: did the bytes not fit the protocol, or did they stop coming?
fn broken(error: &hyper::Error) -> FetchError {
    let malformed = error.is_parse()
        || causes(error).any(|cause| {
            let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
        });
    if malformed { FetchError::Protocol(words(error)) } else { FetchError::Disconnected(words(error)) }
}

/// An error and what caused it, outermost first. `io::Error::source` skips the error that it wraps, hence this.
fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
}

/// An error and its causes in one line, without what is said twice.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = line + ": " + &cause;
        }
    }
    line
}
