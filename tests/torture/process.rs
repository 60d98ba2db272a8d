//! This binary once more, in another role. A child ends when its owner lets go of it, or is gone.

use std::{
    fs::OpenOptions,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// Longest that a role may take to say its port: a recovery of many sessions is in it.
const START_MAX: Duration = Duration::from_secs(30);

/// A role that runs.
pub(crate) struct Role {
    child: Child,
    /// Its standard input, whose end is its end. Held here, because waiting for a child closes the one it holds.
    _lifeline: ChildStdin,
    pub(crate) port: u16,
}

/// Why a role does not run.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It ended before it had said its port.
    Ended(ExitStatus),
    /// It could not be started, or said something else.
    Other(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(status) => write!(f, "ended before it listened: {status}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// In a child: ends the process when the owner's end of the standard input is closed, by whatever.
pub(crate) fn end_with_owner() {
    std::thread::spawn(|| {
        let _until_it_ends = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(3);
    });
}

impl Role {
    /// Starts `args` and waits for the port. Its errors go to the file `log`.
    pub(crate) async fn start(args: &[String], crash: Option<&str>, log: &Path) -> Result<Self, Fault> {
        let other = |error: std::io::Error| Fault::Other(format!("{}: {error}", args[0]));
        let errors = OpenOptions::new().create(true).append(true).open(log).map_err(other)?;
        let mut command = Command::new(std::env::current_exe().map_err(other)?);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        command.env_remove("STEERAGE_CRASH");
        if let Some(crash) = crash {
            command.env("STEERAGE_CRASH", crash);
        }
        let mut child = command.spawn().map_err(other)?;
        let lifeline = child.stdin.take().ok_or_else(|| Fault::Other("no input".into()))?;
        let output = child.stdout.take().ok_or_else(|| Fault::Other("no output".into()))?;
        let mut line = String::new();
        let mut reader = BufReader::new(output);
        let said = timeout(START_MAX, reader.read_line(&mut line)).await;
        match said {
            Ok(Ok(0)) => Err(Fault::Ended(child.wait().await.map_err(other)?)),
            Ok(Ok(_)) => match line.trim().parse() {
                Ok(port) => Ok(Self { child, _lifeline: lifeline, port }),
                Err(_) => Err(Fault::Other(format!("{} said {line:?} in place of its port", args[0]))),
            },
            Ok(Err(error)) => Err(other(error)),
            Err(_) => Err(Fault::Other(format!("{} did not listen within {} s", args[0], START_MAX.as_secs()))),
        }
    }

    /// Kills it at once, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        let _gone_already = self.child.kill().await;
    }

    /// Asks it to stop.
    pub(crate) async fn terminate(&self) {
        let Some(pid) = self.child.id() else { return };
        let _gone_already = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }
}
