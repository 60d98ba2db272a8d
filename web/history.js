// Reads events of a session from before a cursor, a page at a time, through a client of its own.

/** Events of one page, as the server gives them at most. */
const PAGE_MAX = 1_000;

/** The records after `after` up to `last` (both seq of the log), as text that came; `reset` if the cursor is not honoured. */
function read(steerage, id, after, last, signal) {
  return new Promise((resolve, reject) => {
    const session = steerage.session(id, { transport: 'poll', from: 'start', after });
    const records = [];
    let done = false;
    const end = (settle, value) => {
      if (done) return;
      done = true;
      session.close();
      signal.removeEventListener('abort', stop);
      settle(value);
    };
    const stop = () => end(reject, signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop);
    session.on('event', record => {
      if (done || record.type === 'snapshot') return;
      if (record.seq <= last) records.push(record);
      // Of a walk from the start only its end is wanted, and what that follows.
      if (records.length > 2 * PAGE_MAX) records.splice(0, records.length - PAGE_MAX - 1);
      if (record.seq >= last) end(resolve, { records });
    });
    session.on('notice', ({ type }) => {
      if (type === 'reset') end(resolve, { reset: true });
      else if (type === 'caught_up') end(resolve, { records });
    });
    session.on('connection', ({ status, reason }) => {
      if (status === 'waiting' || status === 'closed') end(reject, new Error(`the log could not be read: ${reason}`));
    });
    session.open();
  });
}

/**
 * The page before `entries`: `{ records, cursor }`, what they follow. An id needs the epoch of its event, which changes
 * when the server starts again: those that were seen are tried, and where none fits the log is read from its start once.
 */
export async function earlier({ steerage, id, entries, signal }) {
  const last = entries.beforeSeq;
  const from = Math.max(0, last - PAGE_MAX);
  if (from === 0) return { records: (await read(steerage, id, '', last, signal)).records, cursor: '' };
  // The epoch of what we hold first; then those below it.
  const own = entries.before.split('.')[0];
  const epochs = [own, ...[...entries.epochs].filter(([epoch, seq]) => epoch !== own && seq <= from).map(([epoch]) => epoch)];
  for (const epoch of epochs) {
    const cursor = `${epoch}.${from}`;
    const { records, reset } = await read(steerage, id, cursor, last, signal);
    if (!reset) return { records, cursor };
  }
  const { records } = await read(steerage, id, '', last, signal);
  // A longer walk than asked for, once in an epoch: its ids are known from here on.
  const kept = records.slice(-PAGE_MAX);
  return { records: kept, cursor: records.at(-PAGE_MAX - 1)?.id ?? '' };
}
