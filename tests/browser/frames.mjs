// The frames of a session as curl gets them, and the rows of the timeline held against them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';

/** What a stream says until it ends, or for so many seconds: one whose run waits for somebody does not end. */
export async function curl(url, seconds) {
  const patience = seconds ? ['--max-time', String(seconds)] : [];
  const child = execFile('curl', ['-sN', ...patience, url], { maxBuffer: 1 << 28 });
  let stream = '';
  child.stdout.on('data', data => { stream += data; });
  await once(child, 'close');
  return stream;
}

/** The frames of a stream by their seq. */
export const bySeq = stream => new Map(stream.split('\n\n').filter(frame => frame.startsWith('id: '))
  .map(frame => [Number(/^id: \w+\.(\d+)/.exec(frame)[1]), frame + '\n\n']));

export const dataOf = frame => /^data: (.*)$/m.exec(frame)[1];

/** As the list says it. */
export const size = bytes => bytes < 10_000 ? `${bytes.toLocaleString('en')} B` : `${(bytes / 1e3).toFixed(bytes < 100_000 ? 1 : 0)} kB`;

/** Rows of the log alone. */
export const events = rows => rows.filter(({ seq }) => /^\d/.test(seq));

export function equalsLog(rows, framesOf) {
  const shown = events(rows);
  assert.equal(shown.length, framesOf.size);
  for (const [at, { seq, type, size: said }] of shown.entries()) {
    const data = dataOf(framesOf.get(at + 1));
    assert.deepEqual({ seq, type, said }, { seq: String(at + 1), type: JSON.parse(data).type, said: size(Buffer.byteLength(data)) });
  }
}
