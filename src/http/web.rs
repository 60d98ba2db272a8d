//! The playground and the client modules: the files of `web/`, within the binary. A debug build reads them where they
//! stand, at each request.

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest as _, Sha256};

use super::error::Problem;

#[derive(RustEmbed)]
#[folder = "web/"]
struct Files;

/// What the page's own modules and styles stand under.
const FOLDER: &str = "/web/";

/// The file that stands at a path: the page at `/`, what others may use at the top (`/steerage-client.js`), the page's
/// own under `/web/`.
fn at(path: &str) -> Option<(&str, EmbeddedFile)> {
    let name = match path {
        "/" => "index.html",
        _ => match path.strip_prefix(FOLDER) {
            Some("index.html") => return None,
            Some(name) => name,
            None => path.strip_prefix('/').filter(|name| name.starts_with("steerage-"))?,
        },
    };
    // A name of one file, and not a way to another folder.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !name.bytes().all(is_name) {
        return None;
    }
    Files::get(name).map(|file| (name, file))
}

/// Whether a path is one of these files: they are open to everybody.
pub(super) fn has(path: &str) -> bool {
    (path == "/" || path.starts_with(FOLDER) || path.starts_with("/steerage-")) && at(path).is_some()
}

/// The handler of all of them. Asked again each time, answered with 304 where nothing changed: an upgrade of the server
/// is an upgrade of the page.
pub(super) async fn file(uri: Uri, headers: HeaderMap) -> Response {
    let Some((name, file)) = at(uri.path()) else {
        return Problem::new("not_found", "there is no such file").into_response();
    };
    let tag = format!("\"{}\"", STANDARD.encode(&file.metadata.sha256_hash()[..12]));
    let tag = HeaderValue::from_str(&tag).expect("base64 is ASCII");
    let asked = headers.get(header::IF_NONE_MATCH);
    let fresh = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if asked == Some(&tag) {
        return (StatusCode::NOT_MODIFIED, fresh).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)))];
    let policy = (name == "index.html").then(|| policy(&String::from_utf8_lossy(&file.data)));
    let body = match file.data {
        Cow::Borrowed(bytes) => bytes.into_response(),
        Cow::Owned(bytes) => bytes.into_response(),
    };
    let mut response = (fresh, content_type, body).into_response();
    if let Some(policy) = policy {
        let policy = HeaderValue::from_str(&policy).expect("a digest is ASCII");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        // Types are for editors and compilers, which ask for nothing in particular.
        _ => "text/plain; charset=utf-8",
    }
}

/// What the page may do: run its modules and the one script that it came with, named by its digest, use its styles, and
/// speak to where it came from. Text of a model that became markup would do nothing, and no script can make it markup
/// (Trusted Types).
fn policy(page: &str) -> String {
    let script = page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>"));
    let (script, _) = script.unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self' 'sha256-{}'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'self'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        STANDARD.encode(Sha256::digest(script))
    )
}
