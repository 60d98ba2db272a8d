//! `/v1/sessions/{id}/tokens`: what a page may hold instead of a key, minted and taken back.

use axum::{
    extract::{Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    App, auth, credential,
    error::Problem,
    extract::{self, Session},
    origin,
};
use crate::{
    auth::{GENERATIONS_MAX, Grant, NotLess, NotRevoked, RESERVED, Revocation, TICKETS_OF_TOKEN_MAX, TokenId},
    command::Verbs,
    id::{EventId, Seq, SessionId, SessionKey},
};

/// Largest body, in bytes: five verbs, a name and an origin are some 500.
const MINT_BYTES_MAX: usize = 4 * 1024;
/// Longest name, in bytes: as an id of theirs.
const NAME_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mint {
    verbs: Verbs,
    ttl_s: Option<u64>,
    name: Option<String>,
    #[serde(default)]
    cookie: bool,
    #[serde(default)]
    ticket: bool,
    origin: Option<String>,
}

#[derive(Serialize)]
struct Minted {
    token_id: TokenId,
    token: String,
    session_id: SessionId,
    verbs: Verbs,
    name: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket_expires_at: Option<String>,
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new("invalid_request", detail)
}

/// `POST /v1/sessions/{session_id}/tokens`
pub(super) async fn mint(app: App, Session(key): Session, request: Request) -> Result<Response, Problem> {
    let (headers, prefix) = (request.headers().clone(), credential::prefix(request.extensions()).to_owned());
    let body = app.bodies().json(request, MINT_BYTES_MAX).await?;
    let handle = app.open_for_commands(&key).await?;
    let mint: Mint = extract::parse(&body)?;
    // One that was made a moment ago may not have its first event yet; whoever asks its task waits for that.
    let _stored = handle.newest_run().await?;
    let first = handle.event_id(Seq(1)).ok_or_else(Problem::no_session)?;
    let grant = mint.grant(&app, &key, first)?;
    let origin = mint.origin()?;
    let token = app.tokens.mint(&grant);
    let mut answer = HeaderMap::new();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if mint.cookie {
        let secure = app.origins.is_secure(&headers);
        answer.insert(header::SET_COOKIE, credential::set_cookie(&prefix, &token, &grant, secure, app.env.now()));
    }
    let full = || Problem::new("busy", format!("{TICKETS_OF_TOKEN_MAX} tickets of a token wait to be used")).after(1);
    let issued = origin.map(|origin| app.tokens.ticket(&grant, origin).ok_or_else(full)).transpose()?;
    let (ticket, ticket_expires_at) = issued.map(|(ticket, until)| (ticket, until.rfc3339().to_string())).unzip();
    let minted = Minted {
        token_id: grant.id(),
        token,
        session_id: key.session,
        verbs: grant.verbs,
        name: grant.name.to_string(),
        expires_at: grant.expires_at().rfc3339().to_string(),
        ticket,
        ticket_expires_at,
    };
    Ok((StatusCode::CREATED, answer, axum::Json(minted)).into_response())
}

impl Mint {
    fn grant(&self, app: &App, key: &SessionKey, first: EventId) -> Result<Grant, Problem> {
        if self.verbs.is_empty() {
            return Err(invalid("verbs is at least one of read, send, steer, cancel, approve"));
        }
        let ttl_max_s = app.tokens.lives().token_ttl_max_s;
        let ttl_s = self.ttl_s.unwrap_or(ttl_max_s);
        if !(1..=ttl_max_s).contains(&ttl_s) {
            return Err(invalid(format!("ttl_s is 1 to {ttl_max_s} seconds (limits.token_ttl_max_s)")));
        }
        let printable = |name: &String| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.name.as_ref().is_none_or(printable) {
            return Err(invalid(format!("name is 1 to {NAME_BYTES_MAX} printable ASCII characters without space")));
        }
        if self.name.as_deref().is_some_and(|name| RESERVED.contains(&name)) {
            return Err(invalid(format!("name is none of {}", RESERVED.join(", "))));
        }
        match (&app.caller.grant, &self.name) {
            (None, name) => {
                let name = name.as_deref().map_or_else(|| app.caller.name.clone(), Into::into);
                Ok(Grant::new(key, first, self.verbs, name, ttl_s, &app.env))
            }
            (Some(grant), Some(name)) if **name != *grant.name => {
                Err(invalid(format!("name stays {}: a token speaks for whom it was minted", grant.name)))
            }
            (Some(grant), _) => grant.less(self.verbs, ttl_s, &app.env).map_err(|not_less| match not_less {
                NotLess::Verb(verb) => {
                    Problem::new("verb_not_allowed", format!("this token has no `{verb}`, and cannot give it"))
                }
                NotLess::Generations => {
                    invalid(format!("a token is minted from another at most {GENERATIONS_MAX} times in a row"))
                }
            }),
        }
    }

    /// The origin whose pages may use the ticket. `None` where none is wanted.
    fn origin(&self) -> Result<Option<String>, Problem> {
        let rule = "a ticket is for pages of one origin: name it, for instance \"origin\": \"https://app.example\"";
        match &self.origin {
            Some(origin) if origin::is_origin(origin) => Ok(self.ticket.then(|| origin.clone())),
            None if !self.ticket => Ok(None),
            _ => Err(invalid(rule)),
        }
    }
}

/// `DELETE /v1/sessions/{session_id}/tokens`: every token of the session that there is by now.
pub(super) async fn revoke_all(app: App, Session(key): Session) -> Result<StatusCode, Problem> {
    if app.caller.grant.is_some() {
        return Err(auth::no_key());
    }
    let work = {
        let app = app.clone();
        async move {
            let _there_is_one = app.open(&key).await?;
            revoke(app, Revocation::Session(key)).await
        }
    };
    app.whole(work).await
}

/// `DELETE /v1/sessions/{session_id}/tokens/{token_id}`: this one, and those that were minted from it. Whoever has only a
/// token gives up that one.
pub(super) async fn revoke_one(
    app: App,
    Session(key): Session,
    Path((_, token_id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let work = {
        let app = app.clone();
        async move {
            let _there_is_one = app.open_for_commands(&key).await?;
            let token_id: TokenId = token_id.parse().map_err(|rule: &str| Problem::new("bad_request", rule))?;
            let what = match app.caller.grant.clone() {
                None => Revocation::Token(key, token_id),
                Some(grant) if grant.id() == token_id => Revocation::Own(grant),
                Some(_) => {
                    return Err(Problem::new(
                        "verb_not_allowed",
                        "a token revokes itself and no other; that takes a key",
                    ));
                }
            };
            revoke(app, what).await
        }
    };
    app.whole(work).await
}

async fn revoke(app: App, what: Revocation) -> Result<StatusCode, Problem> {
    let tokens = app.tokens.clone();
    // It waits for the disk.
    let done = app.tracker.spawn_blocking(move || tokens.revoke(what)).await;
    match done.map_err(|_| Problem::new("internal", "the request could not be handled"))? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ NotRevoked::Full) => Err(Problem::new("busy", error.to_string()).after(60)),
        Err(error @ NotRevoked::NotStored(_)) => {
            tracing::error!(%error, "a token is revoked until the next start only");
            Err(Problem::new("unavailable", "the revocation holds, and could not be stored").after(5))
        }
    }
}
