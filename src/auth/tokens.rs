//! The tokens of a server: minted, read, taken back, and the moment at which each is over, for streams that outlive it.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::Stream;
use tokio::sync::watch;

use super::{
    fresh_secret,
    revoked::{self, NotRevoked, Revocation, Revoked},
    tickets::Tickets,
    token::{Grant, Signer, TOKEN_TTL_MAX_S},
};
use crate::env::{Env, Millis};

/// How long before its end a stream is told that its token ends, in seconds: time to fetch another one.
pub const EXPIRING_S: u64 = 60;
/// Bytes of a secret at least: what people make up is guessed below that.
pub const SECRET_BYTES_MIN: usize = 32;

/// What a server knows of its tokens.
pub struct Tokens {
    signer: Signer,
    revoked: Mutex<Revoked>,
    /// Where the list is kept; held while it is written, which nobody waits for who only looks.
    file: Mutex<Option<PathBuf>>,
    /// When the newest token that was seen was minted, in milliseconds since 1970: a clock that is set back must not leave
    /// it out of what is revoked.
    newest: AtomicU64,
    tickets: Mutex<Tickets>,
    lives: Lives,
    /// Told when something is taken back.
    changed: watch::Sender<()>,
    env: Env,
}

/// How long what is handed out is good.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// Longest life of a token, in seconds; at most [`TOKEN_TTL_MAX_S`].
    pub token_ttl_max_s: u64,
    /// Life of a ticket, in seconds.
    pub ticket_ttl_s: u64,
}

impl Default for Lives {
    /// Reliability reference §4.1.
    fn default() -> Self {
        Self { token_ttl_max_s: TOKEN_TTL_MAX_S, ticket_ttl_s: 60 }
    }
}

/// What a token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It was never ours.
    Nothing,
    /// It was ours, and has ended or was taken back.
    Over,
    /// This.
    Grant(Arc<Grant>),
}

/// What happens to a token while a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ends after so many milliseconds.
    Expiring(u64),
    /// It has ended, or was taken back.
    Over,
}

impl Tokens {
    /// Those of one process, or with a secret that it was given: what is taken back is forgotten with the process.
    pub fn in_memory(secret: Option<&str>, env: Env) -> Self {
        let secret = secret.map_or_else(|| fresh_secret("", &env), str::to_owned);
        Self::new(Signer::new(secret.as_bytes()), Revoked::default(), None, env)
    }

    /// Those of the sessions in this folder: they outlive the process as the sessions do. Without a secret there is one in
    /// the file `token-secret`, made at the first start and readable for its owner alone.
    pub fn in_folder(folder: &Path, secret: Option<&str>, env: Env) -> std::io::Result<Self> {
        let signer = match secret {
            Some(secret) => Signer::new(secret.as_bytes()),
            None => Signer::new(kept_secret(&folder.join("token-secret"), &env)?.as_bytes()),
        };
        let file = folder.join("token-revocations");
        Ok(Self::new(signer, Revoked::read(&file)?, Some(file), env))
    }

    fn new(signer: Signer, revoked: Revoked, file: Option<PathBuf>, env: Env) -> Self {
        let (revoked, file, tickets) = (Mutex::new(revoked), Mutex::new(file), Mutex::default());
        let (newest, lives, changed) = (AtomicU64::new(0), Lives::default(), watch::Sender::new(()));
        Self { signer, revoked, file, newest, tickets, lives, changed, env }
    }

    /// With these instead of the usual lives.
    pub fn with_lives(self, lives: Lives) -> Self {
        Self { lives, ..self }
    }

    /// How long what is handed out is good.
    pub fn lives(&self) -> Lives {
        self.lives
    }

    fn revoked(&self) -> MutexGuard<'_, Revoked> {
        self.revoked.lock().expect("no panic while the revocations are held")
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().expect("no panic while the tickets are held")
    }

    /// The token that grants this.
    pub fn mint(&self, grant: &Grant) -> String {
        self.newest.fetch_max(grant.issued_at().0, Ordering::Relaxed);
        self.signer.sign(grant)
    }

    /// What a text is worth as a token, at this moment.
    pub fn read(&self, token: &str) -> Worth {
        match self.signer.read(token) {
            None => Worth::Nothing,
            Some(grant) if self.is_over(&grant) => Worth::Over,
            Some(grant) => {
                self.newest.fetch_max(grant.issued_at().0, Ordering::Relaxed);
                Worth::Grant(Arc::new(grant))
            }
        }
    }

    /// Whether it has ended or was taken back.
    pub fn is_over(&self, grant: &Grant) -> bool {
        grant.expires_at() <= self.env.now() || self.revoked().has(grant)
    }

    /// Takes back: nothing is granted by it any more, and streams that go on with it end. Then waits for the disk: when
    /// this returns it holds also after a restart.
    pub fn revoke(&self, what: Revocation) -> Result<(), NotRevoked> {
        let now = Millis(self.env.now().0.max(self.newest.load(Ordering::Relaxed)));
        self.revoked().add(what, now)?;
        self.changed.send_replace(());
        let file = self.file.lock().expect("no panic while the list is written");
        let Some(file) = &*file else { return Ok(()) };
        // What others have added meanwhile is written with it.
        let lines = self.revoked().lines();
        Ok(revoked::write(file, &lines)?)
    }

    /// A ticket for this token, for pages of that origin, with the moment at which it ends. `None` when too many wait.
    pub fn ticket(&self, grant: &Grant, origin: String) -> Option<(String, Millis)> {
        self.tickets().issue(self.mint(grant), grant.root(), origin, self.lives.ticket_ttl_s, &self.env)
    }

    /// The token of a ticket that is still good and is for a page of that origin. Nobody else gets it.
    pub fn redeem(&self, ticket: &str, is_for: impl Fn(&str) -> bool) -> Option<String> {
        self.tickets().redeem(ticket, is_for, self.env.now())
    }

    /// What happens to a token, for a stream that goes on with it: that it will end, and that it is over.
    pub fn fate(self: Arc<Self>, grant: Arc<Grant>) -> impl Stream<Item = Fate> + Send + 'static {
        async_stream::stream! {
            let mut changed = self.changed.subscribe();
            let mut told = false;
            while !self.is_over(&grant) {
                let left = grant.expires_at().since(self.env.now());
                let early = left.saturating_sub(Duration::from_secs(EXPIRING_S));
                if !told && early.is_zero() {
                    told = true;
                    yield Fate::Expiring(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
                    continue;
                }
                tokio::select! {
                    () = tokio::time::sleep(if told { left } else { early }) => {}
                    _ = changed.changed() => {}
                }
            }
            yield Fate::Over;
        }
    }
}

/// The secret in that file; a new one, if there is no such file.
fn kept_secret(file: &Path, env: &Env) -> std::io::Result<String> {
    let mut secret = String::new();
    match std::fs::File::open(file) {
        Ok(mut kept) => {
            kept.read_to_string(&mut secret)?;
            match secret.trim().len() >= SECRET_BYTES_MIN {
                true => Ok(secret.trim().to_owned()),
                false => Err(std::io::Error::other(format!("{} holds no secret; remove it", file.display()))),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = fresh_secret("", env);
            // Under another name first: half a secret would be one that somebody else could make up.
            let new = file.with_extension("new");
            let mut options = std::fs::OpenOptions::new();
            let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            written.write_all(secret.as_bytes())?;
            written.sync_all()?;
            std::fs::rename(new, file)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::{
        command::Verbs,
        id::{SessionKey, Tenant},
    };

    fn grant(ttl_s: u64, env: &Env) -> Grant {
        let key = SessionKey { tenant: Tenant::default(), session: "s".parse().unwrap() };
        Grant::new(&key, "k7q2mx.1".parse().unwrap(), Verbs::ALL, "web".into(), ttl_s, env)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_hears_of_the_end_of_its_token_in_time() {
        let env = Env::seeded(1);
        let tokens = Arc::new(Tokens::in_memory(None, env.clone()));
        let grant = grant(100, &env);
        let token = tokens.mint(&grant);
        assert_eq!(tokens.read(&token), Worth::Grant(Arc::new(grant.clone())));
        let began = env.now().0;
        let fate: Vec<_> = tokens.clone().fate(Arc::new(grant)).map(|fate| (fate, env.now().0 - began)).collect().await;
        assert_eq!(fate, [(Fate::Expiring(60_000), 40_000), (Fate::Over, 100_000)]);
        assert_eq!(tokens.read(&token), Worth::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_hears_at_once_that_its_token_was_taken_back() {
        let env = Env::seeded(2);
        let tokens = Arc::new(Tokens::in_memory(None, env.clone()));
        let (grant, other) = (Arc::new(grant(900, &env)), Arc::new(grant(900, &env)));
        let (began, mut fate) = (env.now(), Box::pin(tokens.clone().fate(grant.clone())));
        let mut others = Box::pin(tokens.clone().fate(other));
        let revoke = async {
            tokio::task::yield_now().await;
            tokens.revoke(Revocation::Token(grant.key(), grant.id())).unwrap();
        };
        let (told, ()) = tokio::join!(fate.next(), revoke);
        assert_eq!((told, env.now()), (Some(Fate::Over), began));
        assert_eq!(others.next().await, Some(Fate::Expiring(60_000)), "the other one goes on");
        assert_eq!(tokens.read(&tokens.mint(&grant)), Worth::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_keeps_the_secret_and_what_was_taken_back_and_nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let env = Env::system();
        let folder = std::env::temp_dir().join(format!("steerage-tokens-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let first = Tokens::in_folder(&folder, None, env.clone()).unwrap();
        let (kept, taken) = (grant(900, &env), grant(900, &env));
        let (token, revoked) = (first.mint(&kept), first.mint(&taken));
        first.revoke(Revocation::Token(taken.key(), taken.id())).unwrap();
        let second = Tokens::in_folder(&folder, None, env.clone()).unwrap();
        assert!(matches!(second.read(&token), Worth::Grant(_)));
        assert_eq!(second.read(&revoked), Worth::Over);
        let mode = std::fs::metadata(folder.join("token-secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let given = Tokens::in_folder(&folder, Some("a secret of the operator's own choice"), env.clone()).unwrap();
        assert_eq!(given.read(&token), Worth::Nothing);
        std::fs::write(folder.join("token-secret"), "").unwrap();
        assert!(Tokens::in_folder(&folder, None, env).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
