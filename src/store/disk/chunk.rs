//! A chunk: a run of events of one session in its final form, packed and compressed.
//!
//! Layout of `data`: a version byte, the CRC-32 of the packed events, then these in LZ4 with their length in front.

use rusqlite::{Connection, OptionalExtension as _, named_params};

use crate::{
    frame::{Frame, pack},
    id::Seq,
    store::StoreError,
};

/// Frame bytes of one chunk: what one read hands out, and what one slow reader may hold of ours at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

const VERSION: u8 = 1;
/// Bytes before the compressed ones: version and sum.
const HEAD: usize = 5;
/// Bytes of a packed chunk. Larger ones are not made: an event is a few megabytes at most.
const PACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Adds frames that follow each other, as one row.
pub(super) fn insert(connection: &Connection, session: i64, frames: &[Frame]) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(()) };
    let bytes: usize = frames.iter().map(Frame::size).sum();
    connection
        .prepare_cached(
            "INSERT INTO chunk (session, first_seq, last_seq, bytes, data) \
             VALUES (:session, :first, :last, :bytes, :data)",
        )?
        .execute(named_params! {
            ":session": session,
            ":first": first.seq().0.cast_signed(),
            ":last": last.seq().0.cast_signed(),
            ":bytes": bytes as i64,
            ":data": encode(frames),
        })?;
    Ok(())
}

/// The newest position of a session that is in a chunk.
pub(super) fn newest(connection: &Connection, session: i64) -> rusqlite::Result<Seq> {
    let mut newest =
        connection.prepare_cached("SELECT last_seq FROM chunk WHERE session = ? ORDER BY first_seq DESC LIMIT 1")?;
    let last: Option<i64> = newest.query_row([session], |row| row.get(0)).optional()?;
    Ok(Seq(last.unwrap_or(0).cast_unsigned()))
}

/// The chunk that holds the event past `after`, from that event on.
pub(super) fn read(connection: &Connection, session: i64, after: Seq) -> Result<Option<Vec<Frame>>, StoreError> {
    let mut find = connection.prepare_cached(
        "SELECT first_seq, last_seq, data FROM chunk WHERE session = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1",
    )?;
    let next = after.next().0.cast_signed();
    let found = find
        .query_row([session, next], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)))
        .optional()?;
    let Some((first, last, data)) = found.filter(|(_, last, _)| *last >= next) else { return Ok(None) };
    let damaged = || StoreError::Damaged(format!("the events {first} to {last}"));
    let mut frames = decode(&data, Seq(first.cast_unsigned() - 1)).ok_or_else(damaged)?;
    if frames.last().is_none_or(|frame| frame.seq().0 != last.cast_unsigned()) {
        return Err(damaged());
    }
    let skipped = usize::try_from(next - first).map_err(|_| damaged())?;
    frames.drain(..skipped);
    Ok(Some(frames))
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let packed = pack::pack(frames);
    let mut data = vec![VERSION];
    data.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    data.extend_from_slice(&lz4_flex::compress_prepend_size(&packed));
    data
}

/// The frames of a chunk whose first follows `after`. `None` when it is not whole.
pub(super) fn decode(data: &[u8], after: Seq) -> Option<Vec<Frame>> {
    let (head, compressed) = data.split_at_checked(HEAD)?;
    let (&VERSION, sum) = head.split_first()? else { return None };
    let length = u32::from_le_bytes(*compressed.first_chunk()?);
    if length as usize > PACKED_BYTES_MAX {
        return None;
    }
    let packed = lz4_flex::decompress_size_prepended(compressed).ok()?;
    let sum: [u8; 4] = sum.try_into().ok()?;
    (crc32fast::hash(&packed) == u32::from_le_bytes(sum)).then(|| pack::unpack(&packed, after))?
}
