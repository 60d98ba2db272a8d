// Runs that go on without their client: lost, found again at any event, polled, cancelled.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { judged, terminal } from './harness/judge.mjs';
import { play, until, wire } from './harness/stage.mjs';
import { of } from '../../ai/harness/server.mjs';
import { few, words } from './harness/upstream.mjs';

const begin = ({ client }, input, more) => client.responses.create({ model: 'mock/x', input, background: true, ...more });
const all = async stream => { const events = []; for await (const event of stream) events.push(event); return events; };
const shown = (stage, id, text) => until(async () => (await stage.client.responses.retrieve(id)).output_text === text);
const rest = (client, id, starting_after) => client.responses.retrieve(id, { stream: true, starting_after });

/** Events until there are so many, or the connection breaks. */
async function take(stream, least, seen = []) {
  try {
    for await (const event of stream) { seen.push(event); if (seen.length >= least) break; }
  } catch (error) {
    // What the SDKs make of a body that breaks off is undici's error, or their own.
    assert.match(`${error} ${error.cause}`, /terminated|Connection error|other side closed|socket|Premature/i);
  }
  return seen;
}

play('background', {}, scene => {
  scene('polling', async stage => {
    let response = await begin(stage, `slow 30 ${stage.name}`);
    assert.ok(['queued', 'in_progress'].includes(response.status) && response.background);
    while (['queued', 'in_progress'].includes(response.status)) {
      await sleep(20);
      response = await stage.client.responses.retrieve(response.id);
    }
    assert.deepEqual([response.status, response.output_text], ['completed', `${words(30)}to the end of ${stage.name}.`]);
  });

  scene('it is found at every event', async stage => {
    const whole = await all(await begin(stage, `tokens 60 ${stage.name}`, { stream: true }));
    const { id } = await judged(whole);
    assert.ok(whole.length > 40);
    assert.deepEqual(await all(await rest(stage.client, id)), whole);
    for (let n = 0; n < whole.length; n += 1) assert.deepEqual(await all(await rest(stage.client, id, n)), whole.slice(n + 1));
  });

  scene('it is dropped and found while it runs', async stage => {
    const seen = [];
    let stream = await begin(stage, `slow 80 ${stage.name}`, { stream: true });
    for (let turn = 1; turn <= 12; turn += 1) {
      await take(stream, 6 * turn, seen);
      stream = await rest(stage.client, seen[0].response.id, seen.at(-1).sequence_number);
    }
    await take(stream, Infinity, seen);
    assert.equal((await judged(seen)).text, `${words(80)}to the end of ${stage.name}.`);
    assert.deepEqual(stage.upstream.about(stage.name).map(({ closed }) => closed), [false]);
  });

  scene('it is cut at many bytes', async stage => {
    const whole = await all(await begin(stage, `tokens 60 ${stage.name}`, { stream: true }));
    const { id } = await judged(whole);
    const proxy = await stage.proxy();
    const far = stage.clientOf(proxy.url);
    for (const limit of [700, 911, 1122, 1333, 1755, 2388, 3020, 5000, 9001, 15013]) {
      const seen = [];
      for (let tries = 0; !terminal.includes(seen.at(-1)?.type); tries += 1) {
        assert.ok(tries < 2000);
        proxy.limit(limit + 400 * (tries % 7));
        let stream;
        try {
          stream = await rest(far, id, seen.at(-1)?.sequence_number);
        } catch { continue; /* the head itself was cut */ }
        await take(stream, Infinity, seen);
      }
      assert.deepEqual(seen, whole, `in pieces of ${limit}`);
    }
  });

  scene('the helper goes on where it was', async stage => {
    const whole = await all(await begin(stage, `tokens 30 ${stage.name}`, { stream: true }));
    const { id, text } = await judged(whole);
    for (let n = 0; n < whole.length; n += 3) {
      const stream = stage.client.responses.stream({ response_id: id, starting_after: n });
      const numbers = [];
      for await (const event of stream) numbers.push(event.sequence_number);
      assert.deepEqual(numbers, whole.slice(n + 1).map(({ sequence_number }) => sequence_number));
      assert.equal((await stream.finalResponse()).output_text, text);
    }
    const running = await begin(stage, `slow 30 ${stage.name}`);
    const final = await stage.client.responses.stream({ response_id: running.id, starting_after: 5 }).finalResponse();
    assert.equal(final.output_text, `${words(30)}to the end of ${stage.name}.`);
  });

  scene('cancel, and cancel again', async stage => {
    const { id } = await begin(stage, `hold ${stage.name}`);
    await shown(stage, id, few);
    const helper = stage.client.responses.stream({ response_id: id });
    const cancelled = await stage.client.responses.cancel(id);
    assert.equal(cancelled.status, 'cancelled');
    assert.equal(cancelled.output[0].content[0].text, few);
    await until(() => stage.upstream.about(stage.name)[0].closed, 'the upstream sees the close', 2_000);
    assert.deepEqual(wire(await stage.client.responses.cancel(id)), wire(cancelled));
    assert.deepEqual(wire(await stage.client.responses.retrieve(id)), wire(cancelled));
    // Who watches through the helper is told, and does not break.
    const watched = await helper.finalResponse();
    assert.deepEqual([watched.status, watched.output_text], ['cancelled', few]);
    assert.equal(of(await stage.server.log(cancelled.conversation.id), 'run.cancelled').length, 1);
  });

  scene('cancel without background', async stage => {
    const stream = await stage.client.responses.create({ model: 'mock/x', input: `hold ${stage.name}`, stream: true });
    const seen = [];
    for await (const event of stream) {
      seen.push(event);
      if (event.type !== 'response.content_part.added') continue;
      assert.equal((await stage.client.responses.cancel(seen[0].response.id)).status, 'cancelled');
    }
    assert.equal((await judged(seen)).end.status, 'cancelled');
    await until(() => stage.upstream.about(stage.name)[0].closed, 'the upstream sees the close', 2_000);
  });

  scene('a steered response names its successor', async stage => {
    const { id, conversation } = await begin(stage, `hold ${stage.name}`);
    await shown(stage, id, few);
    const helper = stage.client.responses.stream({ response_id: id });
    await stage.server.control(conversation.id, { type: 'steer', content: `rather ${stage.name}` });
    const steered = await helper.finalResponse();
    assert.deepEqual([steered.status, steered.incomplete_details.reason], ['incomplete', 'steered']);
    const after = await stage.client.responses.stream({ response_id: steered.metadata.steerage_successor }).finalResponse();
    assert.equal(after.output_text, `You said rather ${stage.name}.`);
  });
});
