//! The servers that are compared, each started fresh for a round and ended after it.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

pub(crate) use crate::door::Door;
use crate::process::Owned;

/// What stands between the mock and the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Steerage(Store, Door),
    /// Node, the AI SDK, resumable-stream and Redis: `benches/peers`.
    Stack,
    /// The same without resumable-stream and Redis: nothing can be resumed.
    BareStack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    /// What is shown survives the process.
    DiskOs,
    /// The same, and every event survives a power cut.
    DiskFsync,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        let store = match self {
            Self::Nginx => return "nginx".into(),
            Self::Stack => return "AI SDK + resumable-stream + Redis".into(),
            Self::BareStack => return "AI SDK alone, not resumable".into(),
            Self::Steerage(Store::Memory, _) => "memory",
            Self::Steerage(Store::DiskOs, _) => "disk os",
            Self::Steerage(Store::DiskFsync, _) => "disk fsync",
        };
        let dialect = match self.door() {
            Door::Chat => ", AI SDK dialect",
            Door::OpenAiChat => ", Chat Completions",
            Door::Responses => ", Responses",
            Door::Completions | Door::Sessions => "",
        };
        format!("steerage, {store}{dialect}")
    }

    /// How a client asks it.
    pub(crate) fn door(self) -> Door {
        match self {
            Self::Nginx => Door::Completions,
            Self::Steerage(_, door) => door,
            Self::Stack | Self::BareStack => Door::Chat,
        }
    }

    /// Whether what it sends can be had again.
    pub(crate) fn resumes(self) -> bool {
        matches!(self, Self::Steerage(..) | Self::Stack)
    }

    /// Whether it can be run here; says so if not.
    pub(crate) fn is_available(self) -> bool {
        let (lacks, remedy) = match self {
            Self::Nginx => ("nginx", "BENCH_NGINX names its binary, scripts/bench fetches one"),
            Self::Stack | Self::BareStack => ("Node with Redis", "scripts/bench --peers looks for them"),
            Self::Steerage(..) => return true,
        };
        let needs: &[&str] = match self {
            Self::Nginx => &["BENCH_NGINX"],
            _ => &["BENCH_NODE", "BENCH_REDIS"],
        };
        let available = needs.iter().all(|name| tool(name).is_some());
        if !available {
            println!("(no {lacks}: {remedy})\n");
        }
        available
    }
}

/// A binary that `scripts/bench` names.
fn tool(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists())
}

/// The binary that `scripts/bench` names, built as users build it: cargo's own one for benches has the features of the
/// tests, such as a clock that can be paused.
fn steerage() -> PathBuf {
    std::env::var_os("BENCH_STEERAGE").unwrap_or_else(|| env!("CARGO_BIN_EXE_steerage").into()).into()
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    process: Owned,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// Starts one with so many worker threads or processes, and waits until it listens.
pub(crate) fn start(kind: Kind, workers: usize, upstream: u16) -> Result<Server, String> {
    let port = free_port()?;
    let mut command = match kind {
        Kind::Steerage(store, _) => steerage_command(store, port, workers, upstream)?,
        Kind::Nginx => nginx_command(port, workers, upstream)?,
        Kind::Stack | Kind::BareStack => stack_command(kind, port, upstream)?,
    };
    // The stack's server ends with its standard input, should this process be killed.
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
    let mut process = Owned(child.map_err(|error| format!("{}: {error}", kind.name()))?);
    // Node reads some thousand files first, which takes a while on a busy machine.
    for _ in 0..3000 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(Server { kind, port, process });
        }
        if let Ok(Some(status)) = process.try_wait() {
            return Err(format!("{} ended: {status}", kind.name()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("{} does not listen", kind.name()))
}

/// Bounds that one tenant with all the streams of a bench, begun at once, would meet.
const UNBOUNDED: &str =
    "[limits]\nsession_creates_per_s = 0\n\n[tenant_limits]\nsessions_max = 0\nruns_max = 0\nreaders_max = 0\n";

fn steerage_command(store: Store, port: u16, workers: usize, upstream: u16) -> Result<Command, String> {
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-steerage.toml");
    std::fs::write(&config, UNBOUNDED).map_err(|error| format!("{}: {error}", config.display()))?;
    let mut command = Command::new(steerage());
    command.arg("--config").arg(config);
    command.arg("--listen").arg(format!("127.0.0.1:{port}"));
    let level = match store {
        Store::Memory => None,
        Store::DiskOs => Some("os"),
        Store::DiskFsync => Some("fsync"),
    };
    match level {
        None => command.args(["--store", "memory"]),
        Some(level) => {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-store");
            let _of_the_last_round = std::fs::remove_dir_all(&folder);
            command.arg("--store").arg(format!("disk:{}", folder.display())).args(["--durability", level])
        }
    };
    command.arg("--upstream").arg(format!("mock=http://127.0.0.1:{upstream}/v1"));
    command.env("TOKIO_WORKER_THREADS", workers.to_string()).env("STEERAGE_LOG", "error");
    Ok(command)
}

fn nginx_command(port: u16, workers: usize, upstream: u16) -> Result<Command, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nginx");
    let write = || {
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("nginx.conf"), nginx_conf(&home, port, workers, upstream))
    };
    write().map_err(|error| format!("{}: {error}", home.display()))?;
    let mut command = Command::new(tool("BENCH_NGINX").ok_or("no nginx")?);
    command.arg("-p").arg(&home).arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("error.log"));
    Ok(command)
}

/// Node is one process, whatever number of workers is asked for; Redis is its child.
fn stack_command(kind: Kind, port: u16, upstream: u16) -> Result<Command, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-redis");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new(tool("BENCH_NODE").ok_or("no Node")?);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/server.mjs"));
    command.env("NODE_ENV", "production").env("PORT", port.to_string());
    command.env("UPSTREAM", format!("http://127.0.0.1:{upstream}/v1"));
    if kind == Kind::Stack {
        command.env("REDIS_SERVER", tool("BENCH_REDIS").ok_or("no Redis")?);
        command.env("REDIS_PORT", free_port()?.to_string()).env("REDIS_DIR", folder);
    }
    Ok(command)
}

/// As one would set it up in front of a model server.
fn nginx_conf(home: &Path, port: u16, workers: usize, upstream: u16) -> String {
    let home = home.display();
    format!(
        "daemon off;
worker_processes {workers};
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header connection '';
            proxy_buffering off;
            proxy_read_timeout 60s;
        }}
    }}
}}
"
    )
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| error.to_string())
}
