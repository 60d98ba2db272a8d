// The judge itself: what it is there to find, it finds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Oracle } from './harness/oracle.mjs';

const json = chunk => (typeof chunk === 'string' ? chunk : JSON.stringify(chunk));
const lines = (...chunks) => chunks.map(chunk => `data: ${json(chunk)}\n\n`).join('');

async function faults(of, text) {
  const oracle = new Oracle();
  const answer = await oracle.fetch(of)(`data:text/event-stream,${encodeURIComponent(text)}`);
  assert.equal(await answer.text(), text, 'the client is given what came');
  return oracle.faults();
}

test('what is right has no fault', async () => {
  const text = `:\n\n${lines({ type: 'start', messageId: 'a' }, { type: 'start-step' }, { type: 'text-start', id: '1' },
    { type: 'text-delta', id: '1', delta: 'é' }, { type: 'data-any', data: { a: null }, transient: true }, '[DONE]')}`;
  assert.deepEqual(await faults([7, 6, 5, 'strict'], text), []);
});

for (const [what, of, text] of [
  ['an unknown key', ['strict'], lines({ type: 'start', messageId: 'a', seq: 1 })],
  ['an unknown type', [6], lines({ type: 'steering-message', id: 'a', parts: [] })],
  ['an approval for a client that has none', [5], lines({ type: 'tool-approval-request', approvalId: 'a', toolCallId: 'b' })],
  ['a null', [7], lines({ type: 'start', messageId: null })],
  ['a null that a schema would let pass', [7], lines({ type: 'tool-output-available', toolCallId: 'a', output: null })],
  ['a finish reason of our own', [7], lines({ type: 'finish', finishReason: 'cancelled' })],
  ['no JSON', [7], lines('{"type":')],
  ['another framing', [7], 'event: x\ndata: {"type":"start-step"}\n\n'],
]) {
  test(`${what} is a fault`, async () => assert.equal((await faults(of, text)).length > 0, true));
}
