//! The command line.

use std::{convert::Infallible, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use steerage::{
    Config, Server, auth,
    config::{self, ConfigError, DiskDurability, LogFormat},
    env::Env,
    server::{Drained, TOKEN_SECRET_VARIABLE, socket::Sockets},
    telemetry,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{filter::Targets, util::SubscriberInitExt as _};

mod chat;
mod operate;
mod signals;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Holds LLM generations as durable sessions: stream, resume, steer, approve, stop.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Role {
    /// Serve (the default).
    Serve(Serve),
    /// Talk to a server in this terminal.
    #[command(after_help = chat::HELP)]
    Chat(chat::Options),
    /// Look after a store's folder.
    #[command(subcommand)]
    Store(operate::Work),
    /// Make an API key: prints it, and the lines for the file that say its digest.
    Key,
    /// Validate the configuration and print it in full, without secrets.
    Check(Serve),
}

#[derive(Args)]
struct Serve {
    /// TOML file; see README.
    #[arg(long, env = "STEERAGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8787].
    #[arg(long, env = "STEERAGE_LISTEN", value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
    /// Where sessions live: memory, or disk:FOLDER [default: disk:steerage-data].
    #[arg(long, env = "STEERAGE_STORE", value_name = "STORE")]
    store: Option<String>,
    /// What a store on disk survives: os (the end of the process, and everything somebody relies on a power cut, too) or
    /// fsync (a power cut, every event) [default: os].
    #[arg(long, env = "STEERAGE_DURABILITY", value_name = "LEVEL")]
    durability: Option<DiskDurability>,
    /// A name that the server may be asked for (its Host), besides localhost, 127.0.0.1 and [::1]. May be repeated.
    #[arg(long, env = "STEERAGE_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    allowed_host: Vec<String>,
    /// An origin whose pages may use the API, for instance https://app.example. May be repeated.
    #[arg(long, env = "STEERAGE_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allowed_origin: Vec<String>,
    /// PEM file of a certificate and those that lead to its root: the server speaks https, HTTP/2 or HTTP/1.1. SIGHUP
    /// reads it again.
    #[arg(long, env = "STEERAGE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "STEERAGE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// An OpenAI-compatible model server, its models appear as NAME/MODEL. Its key is read from
    /// STEERAGE_NAME_API_KEY. May be repeated.
    #[arg(long, env = "STEERAGE_UPSTREAM", value_name = "NAME=URL", value_delimiter = ',')]
    upstream: Vec<String>,
    /// A key that opens the server; with none everybody may do everything. Other processes may see a command line: the
    /// variable and the file are for real keys. May be repeated.
    #[arg(long, env = "STEERAGE_API_KEY", hide_env_values = true, value_name = "KEY", value_delimiter = ',')]
    api_key: Vec<String>,
    /// Listen on other addresses than loopback although there are no keys.
    #[arg(long)]
    allow_anonymous: bool,
    /// Address of the operator's own listener: /metrics, and /readyz also while the server drains [default: none].
    #[arg(long, env = "STEERAGE_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<std::net::SocketAddr>,
    /// The key that opens the operator's listener; it must have one where it is not on loopback. Other processes may see
    /// a command line: the variable and the file are for real keys.
    #[arg(long, env = "STEERAGE_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    admin_key: Option<String>,
    /// How the log is written: text, or json, one object a line [default: text].
    #[arg(long, env = "STEERAGE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Serve {
    fn config(self) -> Result<Config, ConfigError> {
        let mut config = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(store) = self.store {
            config.store = store;
        }
        if let Some(durability) = self.durability {
            config.durability = durability;
        }
        config.allowed_hosts.extend(self.allowed_host);
        config.allowed_origins.extend(self.allowed_origin);
        if let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) {
            config.tls = Some(config::Tls { cert, key });
        }
        for upstream in &self.upstream {
            config.add_upstream(upstream)?;
        }
        for key in &self.api_key {
            config.add_key(key)?;
        }
        config.allow_anonymous |= self.allow_anonymous;
        if self.admin_listen.is_some() {
            config.admin.listen = self.admin_listen;
        }
        if let Some(key) = &self.admin_key {
            config.set_admin_key(key)?;
        }
        if let Some(log_format) = self.log_format {
            config.log_format = log_format;
        }
        config.check()?;
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.role {
        None => serve(cli.serve).await,
        Some(Role::Serve(options)) => serve(options).await,
        Some(Role::Chat(options)) => chat::run(options).await,
        Some(Role::Store(work)) => operate::run(work),
        Some(Role::Key) => Ok(key()),
        Some(Role::Check(options)) => check(options),
    };
    result.unwrap_or_else(|message| {
        eprintln!("steerage: {message}");
        ExitCode::FAILURE
    })
}

/// A fresh key, to be shown once, and what the file says of it.
fn key() -> ExitCode {
    let key = auth::fresh_key(&Env::system());
    let digest = auth::KeyDigest::of(&key).expect("a fresh key is a key").hex();
    let shown = format!(
        "{key}\n\n# The key is shown this once. In steerage.toml:\n[keys.NAME]\nsha256 = \"{digest}\"\ntenant = \"default\"\n"
    );
    // Whoever takes the first line only may have left by now.
    let _left = std::io::stdout().write_all(shown.as_bytes());
    ExitCode::SUCCESS
}

fn check(options: Serve) -> Result<ExitCode, String> {
    let config = options.config().map_err(|error| error.to_string())?;
    Server::new(config.clone()).map_err(|error| error.to_string())?;
    print!("{}", config.to_toml());
    let state = |variable: &str| if std::env::var_os(variable).is_some() { "set, not shown" } else { "not set" };
    for (name, upstream) in &config.upstreams {
        let variable = Config::api_key_variable(name, upstream);
        println!("# upstream {name}: key in {variable} ({})", state(&variable));
    }
    println!(
        "# tokens: signed with {TOKEN_SECRET_VARIABLE} ({}), else with a secret of the store's",
        state(TOKEN_SECRET_VARIABLE)
    );
    Ok(ExitCode::SUCCESS)
}

async fn serve(options: Serve) -> Result<ExitCode, String> {
    let config = options.config().map_err(|error| error.to_string())?;
    init_logs(config.log_format);
    let server = Server::new(config.clone()).map_err(|error| error.to_string())?;
    #[cfg(feature = "otel")]
    let spans = telemetry::otlp::Spans::from_env()?;
    #[cfg(feature = "otel")]
    let server = match &spans {
        Some(spans) => server.tracer(spans.tracer()),
        None => server,
    };
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let key = if config.keys.is_empty() { "" } else { " -H \"authorization: Bearer $STEERAGE_API_KEY\"" };
    let greeting = format!(
        "steerage {} is listening on {url}  (store: {})\nsee it stream:\n  curl -N {url}/v1/sessions{key} \
         -H 'content-type: application/json' -H 'accept: text/event-stream' -d '{{\"input\":\"tell me a story\"}}'\n",
        env!("CARGO_PKG_VERSION"),
        config.store
    );
    // Whoever started us may have closed our output: no reason not to serve, and `println` would panic.
    let _nobody_reads = std::io::stdout().write_all(greeting.as_bytes());
    let listener = Sockets::new(listener, config.connections);
    let mut signals = signals::Signals::new().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let hurry = CancellationToken::new();
    let server = server.hurry(hurry.clone());
    let (stop, stopped) = oneshot::channel();
    // As long as the server is there, and no longer: whoever sends a third signal is heard by nobody.
    let listening = async {
        signals.next().await;
        tracing::info!("stopping: no new sessions, running generations may finish; the same signal again ends at once");
        let _serves = stop.send(());
        signals.next().await;
        tracing::warn!("stopping at once");
        hurry.cancel();
        std::future::pending::<Infallible>().await
    };
    let served = tokio::select! {
        served = server.serve(listener, async { drop(stopped.await) }) => served,
        never = listening => match never {},
    };
    #[cfg(feature = "otel")]
    if let Some(spans) = spans {
        spans.shut_down().await;
    }
    match served {
        Ok(Drained::Whole) => {
            tracing::info!("stopped, every generation had ended");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Drained::Cut(count)) => {
            tracing::warn!(count, "stopped, generations were cut");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Drained::HandedOver(count)) => {
            tracing::info!(count, "stopped, generations that were running go on at the next start");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(format!("cannot serve: {error}")),
    }
}

/// Logs to standard error; `STEERAGE_LOG` is a list such as `steerage=debug,info`.
fn init_logs(format: LogFormat) {
    let targets = std::env::var("STEERAGE_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    telemetry::logs(format, targets, colours, std::io::stderr).init();
}
