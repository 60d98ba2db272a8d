//! The servers that are compared, each started fresh for a round and ended after it.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::process::Owned;

/// What stands between the mock and the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    /// Steerage with the store in memory.
    Memory,
    /// Steerage with the store on disk: what is shown survives the process.
    DiskOs,
    /// The same, and every event survives a power cut.
    DiskFsync,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Memory => "steerage, memory",
            Self::DiskOs => "steerage, disk os",
            Self::DiskFsync => "steerage, disk fsync",
        }
    }

    /// How a client asks it.
    pub(crate) fn door(self) -> &'static str {
        if self == Self::Nginx { "nginx" } else { "steerage" }
    }

    /// Whether it can be run here; says so if not.
    pub(crate) fn is_available(self) -> bool {
        let available = self != Self::Nginx || nginx().is_some();
        if !available {
            println!("(no nginx: BENCH_NGINX names its binary, scripts/bench fetches one)\n");
        }
        available
    }
}

/// The binary that `scripts/bench` names.
fn nginx() -> Option<PathBuf> {
    std::env::var_os("BENCH_NGINX").map(PathBuf::from).filter(|path| path.exists())
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
        Kind::Memory | Kind::DiskOs | Kind::DiskFsync => {
            let mut command = Command::new(steerage());
            command.arg("--listen").arg(format!("127.0.0.1:{port}"));
            match kind {
                Kind::Memory => command.args(["--store", "memory"]),
                _ => {
                    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-store");
                    let _of_the_last_round = std::fs::remove_dir_all(&folder);
                    let level = if kind == Kind::DiskOs { "os" } else { "fsync" };
                    command.arg("--store").arg(format!("disk:{}", folder.display())).args(["--durability", level])
                }
            };
            command.arg("--upstream").arg(format!("mock=http://127.0.0.1:{upstream}/v1"));
            command.env("TOKIO_WORKER_THREADS", workers.to_string()).env("STEERAGE_LOG", "error");
            command
        }
        Kind::Nginx => {
            let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nginx");
            let write = || {
                std::fs::create_dir_all(&home)?;
                std::fs::write(home.join("nginx.conf"), nginx_conf(&home, port, workers, upstream))
            };
            write().map_err(|error| format!("{}: {error}", home.display()))?;
            let mut command = Command::new(nginx().ok_or("no nginx")?);
            command.arg("-p").arg(&home).arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("error.log"));
            command
        }
    };
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
    let server = Server { kind, port, process: Owned(child.map_err(|error| format!("{}: {error}", kind.name()))?) };
    for _ in 0..500 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("{} does not listen", kind.name()))
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
