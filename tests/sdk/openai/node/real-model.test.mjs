// A real model behind the server: SmolLM2-135M on llama.cpp, which scripts/sdk-openai-test starts.
import assert from 'node:assert/strict';
import { judged } from './harness/judge.mjs';
import { play, until } from './harness/stage.mjs';
import { Server } from '../../ai/harness/server.mjs';

const url = process.env.STEERAGE_REAL_MODEL_URL;
const skip = !url && 'no real model: STEERAGE_REAL_MODEL_URL is not set';
const busy = async () => (await (await fetch(`${url.replace('/v1', '')}/slots`)).json()).some(slot => slot.is_processing);

play('a real model', {}, scene => {
  scene('it streams, resumes and stops', { skip }, async stage => {
    const { data: [{ id: name }] } = await (await fetch(`${url}/models`)).json();
    const server = await Server.start({ upstream: { url } });
    stage.later(() => server.stop());
    const client = stage.clientOf(server.url);
    const body = { model: `mock/${name}`, temperature: 0, max_output_tokens: 100, ignore_eos: true };
    let stream = await client.responses.create({ ...body, input: 'Tell me everything about lighthouses.', background: true, stream: true });
    const seen = [];
    for (let turn = 1; turn <= 3; turn += 1) {
      for await (const event of stream) { seen.push(event); if (seen.length >= 25 * turn) break; }
      stream = await client.responses.retrieve(seen[0].response.id, { stream: true, starting_after: seen.at(-1).sequence_number });
    }
    for await (const event of stream) seen.push(event);
    const fold = await judged(seen);
    assert.equal(fold.end.incomplete_details.reason, 'max_output_tokens');
    const { id } = await client.responses.create({ ...body, input: 'Write about the sea.', max_output_tokens: 2000, background: true });
    await until(async () => (await client.responses.retrieve(id)).output_text.length > 60);
    assert.equal((await client.responses.cancel(id)).status, 'cancelled');
    await until(async () => !(await busy()), 'the model rests', 5_000);
  });
});
