// One session, every door at once: each client has the same text.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { judged } from './harness/judge.mjs';
import { play } from './harness/stage.mjs';
import { words } from './harness/upstream.mjs';

/** The data of an event stream. */
async function sse(url) {
  const response = await fetch(url, { headers: { accept: 'text/event-stream' } });
  const lines = (await response.text()).split('\n').filter(line => line.startsWith('data: ') && line !== 'data: [DONE]');
  return lines.map(line => JSON.parse(line.slice(6)));
}
const join = (events, type, key) => events.filter(event => event.type === type).map(event => event[key]).join('');

const nativeSse = async ({ url }, session) => join(await sse(`${url}/v1/sessions/${session}/events?until=idle`), 'text.delta', 'text');
const aiSdk = async ({ url }, session) => join(await sse(`${url}/v1/ai-sdk/chat/${session}/stream`), 'text-delta', 'delta');
const nativeSocket = ({ url }, session) => new Promise((resolve, reject) => {
  const events = [];
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/sessions/${session}/ws?from=start`);
  socket.on('error', reject);
  socket.on('message', data => {
    events.push(JSON.parse(data));
    if (events.at(-1).type === 'run.completed') { socket.close(); resolve(join(events, 'text.delta', 'text')); }
  });
});

play('watch', {}, scene => {
  scene('four clients and one text', async stage => {
    const { server, client, name } = stage;
    const { id, conversation } = await client.responses.create({ model: 'mock/x', input: `slow 100 ${name}`, background: true });
    const texts = await Promise.all([
      nativeSse(server, conversation.id), nativeSocket(server, conversation.id), aiSdk(server, conversation.id),
      client.responses.retrieve(id, { stream: true }).then(judged).then(({ text }) => text),
      client.responses.stream({ response_id: id }).finalResponse().then(({ output_text }) => output_text),
    ]);
    assert.deepEqual(texts, Array(5).fill(`${words(100)}to the end of ${name}.`));
    assert.equal(stage.upstream.about(name).length, 1);
  });
});
