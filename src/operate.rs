//! `steerage store`: what an operator does with a store's folder.

use std::{
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Subcommand;
use steerage::{
    id::{SessionKey, Tenant},
    store::disk::operate,
};

/// What is to be done.
#[derive(Subcommand)]
pub(crate) enum Work {
    /// Read every event and say what is wrong; ends with 1 if something is. A server may be running.
    Check {
        /// The folder, as in disk:FOLDER.
        folder: PathBuf,
    },
    /// Print events, one JSON object a line. A server may be running.
    Dump {
        /// The folder, as in disk:FOLDER.
        folder: PathBuf,
        /// Only this session: TENANT/NAME, or NAME of the tenant `default`.
        #[arg(long, value_name = "SESSION")]
        session: Option<String>,
    },
    /// Make the file as small as it can be. No server may be running.
    Vacuum {
        /// The folder, as in disk:FOLDER.
        folder: PathBuf,
    },
}

/// Does it.
pub(crate) fn run(work: Work) -> Result<ExitCode, String> {
    match work {
        Work::Check { folder } => {
            let report = operate::check(&folder).map_err(|error| error.to_string())?;
            println!(
                "{} sessions, {} events of {} bytes in {} chunks and {} rows of the journal; the file has {} bytes",
                report.sessions,
                report.events,
                report.event_bytes,
                report.chunks,
                report.journal_rows,
                report.file_bytes
            );
            report.problems.iter().for_each(|problem| println!("{problem}"));
            Ok(match report.problems.len() {
                0 => {
                    println!("nothing is wrong");
                    ExitCode::SUCCESS
                }
                _ => ExitCode::FAILURE,
            })
        }
        Work::Dump { folder, session } => {
            let only = session.map(|text| key(&text)).transpose()?;
            let mut out = BufWriter::new(std::io::stdout().lock());
            operate::dump(&folder, only.as_ref(), &mut out).map_err(|error| error.to_string())?;
            out.flush().map_err(|error| format!("cannot write: {error}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Work::Vacuum { folder } => {
            let (before, after) = operate::vacuum(&folder).map_err(|error| error.to_string())?;
            println!("{before} bytes before, {after} after");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn key(text: &str) -> Result<SessionKey, String> {
    let (tenant, session) = match text.split_once('/') {
        Some((tenant, session)) => (tenant.parse().map_err(|error| format!("--session {text}: {error}"))?, session),
        None => (Tenant::default(), text),
    };
    let session = session.parse().map_err(|error| format!("--session {text}: {error}"))?;
    Ok(SessionKey { tenant, session })
}
