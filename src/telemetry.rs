//! What leaves the process beside answers: the lines of its log, and spans.

use std::{
    fmt::{self, Debug, Write as _},
    io,
};

use tracing::{Metadata, Subscriber, field::Field};
use tracing_subscriber::{
    Layer, Registry,
    field::MakeExt as _,
    filter::Targets,
    fmt::{MakeWriter, format, layer},
    layer::{Layered, SubscriberExt as _},
};

use crate::config::LogFormat;

#[cfg(feature = "otel")]
pub mod otlp;

/// Writes a log to `writer`: what `targets` let through, in this form. A line says in which request or about which session
/// it was written. Text of others (a path, an error of an upstream) begins no line of its own and colours no terminal:
/// what controls one is escaped.
pub fn logs<W>(format: LogFormat, targets: Targets, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines: Box<dyn Layer<Layered<Targets, Registry>> + Send + Sync> = match format {
        LogFormat::Text => {
            let fields = format::debug_fn(field).delimited(" ");
            layer().fmt_fields(fields).with_ansi(colours).with_writer(writer).boxed()
        }
        LogFormat::Json => layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(Escaping(writer))
            .boxed(),
    };
    tracing_subscriber::registry().with(targets).with(lines)
}

/// Writes one field. Not as the crate does it: there what an error says goes out as it is.
fn field(writer: &mut format::Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write!(Escaped(writer), "{value:?}")
}

/// Writes what controls a terminal, or ends a line anywhere, as its number.
struct Escaped<'a, 'w>(&'a mut format::Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(controls) {
            match piece.char_indices().next_back().filter(|(_, last)| controls(*last)) {
                Some((at, last)) => write!(self.0, "{}{}", &piece[..at], last.escape_default())?,
                None => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// The same for lines of JSON. It may carry more than ASCII as it is, and there are controls beyond ASCII: U+009B begins a
/// command to a terminal as ESC does. They stand in strings only, so that each may be its escape.
struct Escaping<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaping<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Escaping(self.0.make_writer())
    }

    fn make_writer_for(&'w self, meta: &Metadata<'_>) -> Self::Writer {
        Escaping(self.0.make_writer_for(meta))
    }
}

impl<W: io::Write> io::Write for Escaping<W> {
    /// Takes a whole line, as it is given.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut escaped = String::with_capacity(line.len());
        for c in String::from_utf8_lossy(line).chars() {
            match controls(c) && c != '\n' {
                true => write!(escaped, "\\u{:04x}", u32::from(c)).expect("memory takes every character"),
                false => escaped.push(c),
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn controls(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}
