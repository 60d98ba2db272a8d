//! Incremental parser of server-sent events: bytes in, events out, whatever the pieces.
//!
//! The grammar is that of WHATWG HTML, §9.2.5 "Parsing an event stream" and §9.2.6 "Interpreting an event stream":
//!
//! ```text
//! stream  = [ BOM ] *event
//! event   = *( comment / field ) end-of-line            an event without a data field is not dispatched
//! comment = ":" *any-char end-of-line
//! field   = name [ ":" [ SP ] *any-char ] end-of-line   one space after the colon is dropped
//! end-of-line = CR LF / LF / CR
//! ```
//!
//! The `data` fields of an event are joined by LF; the last `event` field wins; the last `retry` of the stream is kept;
//! `id` and unknown names are skipped. Bytes that are not UTF-8 become U+FFFD. Lines end at ASCII bytes, which never occur within a UTF-8
//! sequence, so decoding an event at a time gives what decoding the stream would give.
//!
//! Every byte is looked at once and copied at most twice, whatever the pieces: time is linear in the input. An event
//! of one data line that lies whole in a piece is borrowed from it.

use std::{borrow::Cow, time::Duration};

use memchr::{memchr, memchr2};

/// Bytes that one line may have without its end: enough for a whole tool call in one event, far from a memory risk.
pub const LINE_MAX_BYTES: usize = 1024 * 1024;

/// Bytes that the joined data of one event may have; without it many short lines would get past [`LINE_MAX_BYTES`].
pub const EVENT_MAX_BYTES: usize = 1024 * 1024;

/// Bytes of capacity that a buffer keeps after use: a session should not carry the memory of its one large event.
const KEPT_CAPACITY_BYTES: usize = 16 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its `event` field; absent where it had none or an empty one.
    pub event: Option<Cow<'a, str>>,
    /// Its `data` fields, joined by LF.
    pub data: Cow<'a, str>,
    /// Whether bytes of it were not UTF-8 and were replaced.
    pub lossy: bool,
}

/// A line or an event is longer than its limit. The parser stays in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLong {
    /// A line, comments included.
    #[error("a line is longer than {LINE_MAX_BYTES} bytes")]
    Line,
    /// The data of one event.
    #[error("the data of one event is longer than {EVENT_MAX_BYTES} bytes")]
    Event,
}

/// The parser: what it has seen of the line and the event that are not yet complete.
#[derive(Debug, Default)]
pub struct Parser {
    /// The part of the current line that came in earlier pieces.
    line: Vec<u8>,
    /// The data of the current event that came in earlier pieces or lines.
    data: Vec<u8>,
    /// Whether the current event has a data field, possibly an empty one.
    has_data: bool,
    /// The name of the current event.
    event: Vec<u8>,
    /// How long the server asks to wait before a reconnect.
    retry: Option<Duration>,
    /// The last piece ended with CR: an LF at the start of the next one belongs to it.
    after_cr: bool,
    /// The first line is behind us, and with it the place for a BOM.
    begun: bool,
    /// `data` and `event` were handed out and are to be emptied.
    spent: bool,
    failed: Option<TooLong>,
}

impl Parser {
    /// The next event of `rest`, which moves past what was read; `None` when it is used up.
    ///
    /// ```
    /// let mut parser = steerage::sse::Parser::default();
    /// let mut rest: &[u8] = b"data: one\n\ndata: t";
    /// assert_eq!(parser.next(&mut rest)?.unwrap().data, "one");
    /// assert_eq!(parser.next(&mut rest)?, None);
    /// let mut rest: &[u8] = b"wo\n\n";
    /// assert_eq!(parser.next(&mut rest)?.unwrap().data, "two");
    /// # Ok::<(), steerage::sse::TooLong>(())
    /// ```
    pub fn next<'p, 'r: 'p>(&'p mut self, rest: &mut &'r [u8]) -> Result<Option<Event<'p>>, TooLong> {
        match self.failed {
            Some(error) => Err(error),
            None => match self.advance(rest) {
                Ok(Some(data)) => Ok(Some(self.dispatch(data))),
                Ok(None) => Ok(None),
                Err(error) => {
                    self.failed = Some(error);
                    Err(error)
                }
            },
        }
    }

    /// How long the server asks to wait before a reconnect: its last `retry` field that was a number.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The end of the stream: the event that the blank line was missing of. The standard drops it; some servers leave
    /// the last blank line out, so the caller decides.
    pub fn finish(&mut self) -> Result<Option<Event<'_>>, TooLong> {
        // The first end of line completes a line that has none, the second one is the blank line.
        self.next(&mut &b"\n\n"[..])
    }

    /// Reads until an event is complete. Its data is in the input (`Some(Some(data))`) or in `self.data`.
    fn advance<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Option<&'a [u8]>>, TooLong> {
        if self.spent {
            self.spent = false;
            self.has_data = false;
            recycle(&mut self.data);
            recycle(&mut self.event);
        }
        // The only data line so far, as long as it can stay where it is.
        let mut borrowed: Option<&'a [u8]> = None;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                *rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.carry(rest)?;
                *rest = &[];
                break;
            };
            let piece = &rest[..end];
            self.after_cr = rest[end] == b'\r';
            *rest = &rest[end + 1..];

            if self.line.is_empty() {
                if piece.len() > LINE_MAX_BYTES {
                    return Err(TooLong::Line);
                }
                let line = self.without_bom(piece);
                if line.is_empty() {
                    if self.has_data {
                        return Ok(Some(borrowed));
                    }
                    recycle(&mut self.event);
                } else if let Some(value) = data_value(line) {
                    if self.has_data {
                        self.own(borrowed.take());
                        self.join(value)?;
                    } else {
                        self.has_data = true;
                        borrowed = Some(value);
                    }
                } else {
                    self.name(line);
                }
            } else {
                self.carry(piece)?;
                let carried = std::mem::take(&mut self.line);
                let line = self.without_bom(&carried);
                // It is blank only if it was a BOM and nothing else, and then there is no event before it.
                match data_value(line) {
                    Some(value) if self.has_data => self.join(value)?,
                    Some(value) => {
                        self.has_data = true;
                        self.own(Some(value));
                    }
                    None => self.name(line),
                }
                self.line = carried;
                recycle(&mut self.line);
            }
        }
        self.own(borrowed);
        Ok(None)
    }

    /// Keeps a piece of a line until its end comes.
    fn carry(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + piece.len() > LINE_MAX_BYTES {
            return Err(TooLong::Line);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn without_bom<'l>(&mut self, line: &'l [u8]) -> &'l [u8] {
        if std::mem::replace(&mut self.begun, true) { line } else { line.strip_prefix(BOM).unwrap_or(line) }
    }

    /// Copies the first data line, which could so far stay where it was.
    fn own(&mut self, first: Option<&[u8]>) {
        const { assert!(LINE_MAX_BYTES <= EVENT_MAX_BYTES, "one line is never too long for an event") };
        self.data.extend_from_slice(first.unwrap_or_default());
    }

    /// Adds a further data line.
    fn join(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.data.len() + 1 + value.len() > EVENT_MAX_BYTES {
            return Err(TooLong::Event);
        }
        self.data.push(b'\n');
        self.data.extend_from_slice(value);
        Ok(())
    }

    /// A line that is neither blank nor data: only `event` and `retry` matter here.
    fn name(&mut self, line: &[u8]) {
        let (name, value) = match memchr(b':', line) {
            Some(0) => return, // A comment.
            Some(colon) => (&line[..colon], without_space(&line[colon + 1..])),
            None => (line, &[][..]),
        };
        if name == b"event" {
            self.event.clear();
            self.event.extend_from_slice(value);
        } else if name == b"retry" {
            // Digits only: `u64` alone would take a sign.
            let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            self.retry = digits.and_then(|text| text.parse().ok()).map(Duration::from_millis).or(self.retry);
        }
    }

    fn dispatch<'a>(&'a mut self, borrowed: Option<&'a [u8]>) -> Event<'a> {
        self.spent = true;
        let data = String::from_utf8_lossy(borrowed.unwrap_or(&self.data));
        let event = (!self.event.is_empty()).then(|| String::from_utf8_lossy(&self.event));
        // Lossless decoding borrows, lossy decoding cannot.
        let lossy = matches!(data, Cow::Owned(_)) || matches!(event, Some(Cow::Owned(_)));
        Event { event, data, lossy }
    }
}

/// The value of a `data` field.
fn data_value(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', value @ ..] => Some(without_space(value)),
        _ => None,
    }
}

fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT_CAPACITY_BYTES {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = (Option<String>, String, bool);

    /// The events of a stream that comes in these pieces; the last one may be the unfinished one.
    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Seen>, (Vec<Seen>, TooLong)> {
        let own = |e: Event<'_>| (e.event.map(Cow::into_owned), e.data.into_owned(), e.lossy);
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            loop {
                match parser.next(&mut rest) {
                    Ok(Some(event)) => seen.push(own(event)),
                    Ok(None) => break,
                    Err(error) => return Err((seen, error)),
                }
            }
        }
        match parser.finish() {
            Ok(Some(event)) => seen.push((Some("UNFINISHED".into()), event.data.into_owned(), event.lossy)),
            Ok(None) => {}
            Err(error) => return Err((seen, error)),
        }
        Ok(seen)
    }

    fn whole(document: &[u8]) -> Vec<Seen> {
        parse([document]).unwrap()
    }

    #[test]
    fn the_last_retry_that_is_a_number_is_kept_whatever_the_pieces() {
        let document = b"retry: 1500\n: hello\n\ndata: x\n\nretry: +3\nretry:\nretry: soon\n";
        for cut in 0..document.len() {
            let mut parser = Parser::default();
            for mut rest in [&document[..cut], &document[cut..]] {
                while parser.next(&mut rest).unwrap().is_some() {}
            }
            assert_eq!(parser.retry(), Some(Duration::from_millis(1500)));
        }
        assert_eq!(Parser::default().retry(), None);
    }

    fn data(document: &str) -> Vec<String> {
        whole(document.as_bytes()).into_iter().map(|(_, data, _)| data).collect()
    }

    const DOCUMENTS: [&[u8]; 10] = [
        b"event: a\r\ndata: 1\r\ndata: 2\r\n\r\nevent: b\rdata: 3\r\rdata: 4\n\r\n",
        b"data: one\n\ndata: two\n\n",
        b"data: one\r\n\r\ndata: two\r\rdata:three\n\r\n",
        b"\xef\xbb\xbfdata: bom\n\n\xef\xbb\xbfdata: none\n\ndata: x\n\n",
        b": comment\n\nevent: a\ndata: 1\ndata: 2\nid: 7\nretry: 5\nodd\n\nevent: lost\n\ndata\n\ndata:\ndata\n\n",
        "data: gr\u{fc}\u{df}e \u{1f44b}\r\ndata: \u{65e5}\u{672c}\n\n".as_bytes(),
        b"data: \xff\xf0\x9f\x91\n\ndata: \xc3\ndata: \xa9\n\n",
        b"data: unfinished",
        b"event: x\ndata: no blank line\n",
        b"\n\r\n\rdata:  two spaces\n\ndatax: y\n:data: z\n data: w\n\nevent: a\nevent: b\nevent\nevent:c\ndata: 1\n\n",
    ];

    #[test]
    fn every_split_gives_the_same_events() {
        for document in DOCUMENTS {
            let expected = whole(document);
            for at in 0..=document.len() {
                let (left, right) = document.split_at(at);
                assert_eq!(
                    parse([left, right]).unwrap(),
                    expected,
                    "{:?} at {at}",
                    document.escape_ascii().to_string()
                );
                for second in at..=document.len() {
                    let pieces = [left, &document[at..second], &document[second..]];
                    assert_eq!(parse(pieces).unwrap(), expected, "{at} {second}");
                }
            }
            assert_eq!(parse(document.chunks(1)).unwrap(), expected);
        }
    }

    #[test]
    fn the_standard_is_followed() {
        assert_eq!(data("data: one\r\n\r\ndata: two\r\rdata:three\n\n"), ["one", "two", "three"]);
        assert_eq!(data("data: a\r\ndata: b\r\n\r\ndata: c\rdata: d\r\r"), ["a\nb", "c\nd"]);
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        assert_eq!(data("data\n\ndata\ndata\n\ndata:\n\n"), ["", "\n", ""]);
        assert_eq!(data("data:test\n\ndata: test\n\ndata:  test\n\n"), ["test", "test", " test"]);
        assert_eq!(data(": only\n\n: comments\n\n"), [""; 0]);
        assert_eq!(data("id: 1\nretry: 10\n\nunknown: x\n\nDATA: x\n\n"), [""; 0]);
    }

    #[test]
    fn the_last_name_wins_and_is_forgotten_after_the_event() {
        let seen =
            whole(b"event: a\nevent: b\ndata: 1\n\ndata: 2\n\nevent: lost\n\ndata: 3\n\nevent: c\nevent\ndata: 4\n\n");
        let names: Vec<_> = seen.iter().map(|(name, ..)| name.as_deref()).collect();
        assert_eq!(names, [Some("b"), None, None, None]);
    }

    #[test]
    fn one_mark_at_the_start_is_dropped_and_no_other() {
        assert_eq!(data("\u{feff}data: 1\n\n"), ["1"]);
        assert_eq!(data("\u{feff}\n\u{feff}data: 1\n\n"), [""; 0]);
        assert_eq!(data("data: \u{feff}1\n\n"), ["\u{feff}1"]);
    }

    #[test]
    fn what_is_not_utf8_is_replaced_and_said() {
        assert_eq!(
            whole(b"data: a\xffb\n\ndata: c\n\n"),
            [(None, "a\u{fffd}b".into(), true), (None, "c".into(), false)]
        );
    }

    #[test]
    fn an_event_without_its_blank_line_is_told_apart() {
        for document in ["data: x", "data: x\n", "data: x\r"] {
            assert_eq!(whole(document.as_bytes()), [(Some("UNFINISHED".into()), "x".into(), false)], "{document:?}");
        }
        assert_eq!(whole(b"data: x\n\n: bye"), [(None, "x".into(), false)]);
    }

    #[test]
    fn ten_thousand_data_lines_are_one_event() {
        let document = "data: x\n".repeat(10_000) + "\n";
        assert_eq!(data(&document), [vec!["x"; 10_000].join("\n")]);
    }

    #[test]
    fn a_line_and_an_event_have_a_limit_whatever_the_pieces() {
        let room = LINE_MAX_BYTES - "data: ".len();
        let fits = ["data: ", &"x".repeat(room), "\n\n"].concat();
        let line = ["data: ok\n\ndata: ", &"x".repeat(room + 1), "\n\n"].concat();
        let comment = ["data: ok\n\n:", &"x".repeat(LINE_MAX_BYTES)].concat();
        let event = "data: ok\n\n".to_owned() + &["data: ", &"x".repeat(1023), "\n"].concat().repeat(1025) + "\n";
        let ok = vec![(None, "ok".to_owned(), false)];
        for size in [1000, 4096, usize::MAX] {
            let run = |document: &str| parse(document.as_bytes().chunks(size.min(document.len())));
            assert_eq!(run(&fits).unwrap()[0].1.len(), room);
            assert_eq!(run(&line), Err((ok.clone(), TooLong::Line)), "{size}");
            assert_eq!(run(&comment), Err((ok.clone(), TooLong::Line)), "{size}");
            assert_eq!(run(&event), Err((ok.clone(), TooLong::Event)), "{size}");
        }
    }

    #[test]
    fn a_parser_that_failed_stays_so() {
        let mut parser = Parser::default();
        assert_eq!(parser.next(&mut &vec![b'x'; LINE_MAX_BYTES + 1][..]), Err(TooLong::Line));
        assert_eq!(parser.next(&mut &b"\n\ndata: x\n\n"[..]), Err(TooLong::Line));
        assert_eq!(parser.finish(), Err(TooLong::Line));
    }

    #[test]
    fn an_event_in_one_piece_is_borrowed() {
        let mut parser = Parser::default();
        let mut rest: &[u8] = b"data: {\"a\":1}\n\n";
        let start = rest.as_ptr() as usize;
        let event = parser.next(&mut rest).unwrap().unwrap();
        assert_eq!(event.data.as_ptr() as usize, start + "data: ".len());
    }
}
