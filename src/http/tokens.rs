//! `/v1/sessions/{id}/tokens`: what a page may hold instead of a key, minted and taken back.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    App, auth, credential,
    error::Problem,
    extract::{self, JsonBytes, Session},
    origin,
};
use crate::{
    auth::{GENERATIONS_MAX, Grant, NotLess, NotRevoked, Revocation, TICKETS_MAX, TOKEN_TTL_MAX_S, TokenId},
    command::Verbs,
    id::SessionId,
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
pub(super) async fn mint(
    app: App,
    Session(key): Session,
    headers: HeaderMap,
    body: JsonBytes<MINT_BYTES_MAX>,
) -> Result<Response, Problem> {
    let _there_is_one = app.open_for_commands(&key).await?;
    let mint: Mint = extract::parse(&body.0)?;
    let grant = mint.grant(&app, &key)?;
    let token = app.tokens.mint(&grant);
    let mut answer = HeaderMap::new();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if mint.cookie {
        let secure = app.origins.is_secure(&headers);
        answer.insert(header::SET_COOKIE, credential::set_cookie(&token, &grant, secure, app.env.now()));
    }
    let (ticket, ticket_expires_at) = match mint.ticket {
        false => (None, None),
        true => {
            let origin = mint.origin(&headers)?;
            let issued = app.tokens.ticket(token.clone(), origin);
            let full = || Problem::new("busy", format!("{TICKETS_MAX} tickets wait to be used")).after(1);
            let (ticket, until) = issued.ok_or_else(full)?;
            (Some(ticket), Some(until.rfc3339().to_string()))
        }
    };
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
    fn grant(&self, app: &App, key: &crate::id::SessionKey) -> Result<Grant, Problem> {
        if self.verbs.is_empty() {
            return Err(invalid("verbs is at least one of read, send, steer, cancel, approve"));
        }
        let ttl_s = self.ttl_s.unwrap_or(TOKEN_TTL_MAX_S);
        if !(1..=TOKEN_TTL_MAX_S).contains(&ttl_s) {
            return Err(invalid(format!("ttl_s is 1 to {TOKEN_TTL_MAX_S} seconds")));
        }
        let printable = |name: &String| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.name.as_ref().is_none_or(printable) {
            return Err(invalid(format!("name is 1 to {NAME_BYTES_MAX} printable ASCII characters without space")));
        }
        match (&app.caller.grant, &self.name) {
            (None, name) => {
                let name = name.as_deref().map_or_else(|| app.caller.name.clone(), Into::into);
                Ok(Grant::new(key, self.verbs, name, ttl_s, &app.env))
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

    /// The origin whose pages may use the ticket: the one that is named, or the one that asks.
    fn origin(&self, headers: &HeaderMap) -> Result<String, Problem> {
        let said = || headers.get(header::ORIGIN)?.to_str().ok().map(str::to_owned);
        let origin = self.origin.clone().or_else(said);
        let rule = "a ticket is for pages of one origin: name it, for instance \"origin\": \"https://app.example\"";
        origin.filter(|origin| origin::is_origin(origin)).ok_or_else(|| invalid(rule))
    }
}

/// `DELETE /v1/sessions/{session_id}/tokens`: every token of the session that there is by now.
pub(super) async fn revoke_all(app: App, Session(key): Session) -> Result<StatusCode, Problem> {
    if app.caller.grant.is_some() {
        return Err(auth::no_key());
    }
    let _there_is_one = app.open(&key).await?;
    revoke(app, Revocation::Session(key)).await
}

/// `DELETE /v1/sessions/{session_id}/tokens/{token_id}`: this one, and those that were minted from it. Whoever has only a
/// token gives up that one.
pub(super) async fn revoke_one(
    app: App,
    Session(key): Session,
    Path((_, token_id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let _there_is_one = app.open_for_commands(&key).await?;
    let token_id: TokenId = token_id.parse().map_err(|rule: &str| Problem::new("bad_request", rule))?;
    if app.caller.grant.as_ref().is_some_and(|grant| grant.id() != token_id) {
        return Err(Problem::new("verb_not_allowed", "a token revokes itself and no other; that takes a key"));
    }
    revoke(app, Revocation::Token(token_id)).await
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
