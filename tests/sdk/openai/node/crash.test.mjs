// The server is killed while it answers and another one starts on its store: the client goes on from the last number
// that it has seen, and has the whole answer.
import assert from 'node:assert/strict';
import { judged, terminal } from './harness/judge.mjs';
import { play, wire } from './harness/stage.mjs';
import { of } from '../../ai/harness/server.mjs';
import { words } from './harness/upstream.mjs';

const story = { model: 'demo/story', input: 'Tell me a story.' };
const whole = async ({ client }) => (await client.responses.create({ ...story, tokens_per_second: 5000 })).output_text;
const begin = ({ client }, body) => client.responses.create({ ...body, background: true, stream: true });
const rest = ({ client }, seen) => client.responses.retrieve(
  seen[0].response.id, { stream: true, starting_after: seen.at(-1).sequence_number });

async function take(stream, least, seen) {
  for await (const event of stream) { seen.push(event); if (seen.length >= least) break; }
  return seen;
}

play('crash', { own: true, concurrency: 2 }, scene => {
  scene('killed in mid-answer, twice', async stage => {
    const text = await whole(stage);
    const seen = [];
    let stream = await begin(stage, { ...story, tokens_per_second: 120 });
    for (const least of [30, 80]) {
      await take(stream, least, seen);
      await stage.server.kill();
      await stage.server.again();
      stream = await rest(stage, seen);
    }
    await take(stream, Infinity, seen);
    const fold = await judged(seen);
    assert.equal(fold.text, text);
    assert.equal(fold.end.output.length, 1, 'it goes on within its message');
    assert.equal(of(await stage.server.log(fold.end.conversation.id), 'run.recovered').length, 2);
    // The helper, which wants all of it from the beginning.
    const final = await stage.client.responses.stream({ response_id: fold.id, starting_after: 40 }).finalResponse();
    assert.equal(final.output_text, text);
  });

  scene('who does not know how to resume is not deceived', async stage => {
    const seen = [];
    await assert.rejects(async () => {
      for await (const event of await begin(stage, { ...story, tokens_per_second: 60 })) {
        seen.push(event);
        if (seen.length === 20) await stage.server.kill();
      }
    });
    assert.ok(!terminal.includes(seen.at(-1).type));
    await stage.server.again();
  });

  scene('killed while a model of somebody else answers', async stage => {
    const stream = await begin(stage, { model: 'mock/x', input: `slow 60 ${stage.name}` });
    const seen = await take(stream, 20, []);
    await stage.server.kill();
    await stage.server.again();
    await take(await rest(stage, seen), Infinity, seen);
    assert.equal((await judged(seen)).text, `${words(60)}to the end of ${stage.name}.`);
  });

  scene('what is over is there after a crash', async stage => {
    const done = await stage.client.responses.create({ model: 'mock/x', input: `hello ${stage.name}` });
    await stage.server.kill();
    await stage.server.again();
    assert.deepEqual(wire(await stage.client.responses.retrieve(done.id)), wire(done));
    const after = await stage.client.responses.create({ model: 'mock/x', input: `and ${stage.name}`, previous_response_id: done.id });
    assert.equal(after.output_text, `You said and ${stage.name}.`);
  });
});
