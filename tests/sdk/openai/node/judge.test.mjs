// The judge itself: a stream that lacks, doubles, swaps or alters anything is not let through.
import assert from 'node:assert/strict';
import { judged } from './harness/judge.mjs';
import { play } from './harness/stage.mjs';

const tools = ['lookup', 'get_weather'].map(name => ({ type: 'function', name, parameters: { type: 'object' }, strict: false }));

play('judge', {}, scene => {
  for (const said of ['think', 'both', 'slow 5']) {
    scene(`it notices in "${said}"`, async stage => {
      const stream = await stage.client.responses.create({
        model: 'mock/x', input: `${said} ${stage.name}`, stream: true, ...(said === 'both' ? { tools } : {}) });
      const whole = [];
      for await (const event of stream) whole.push(structuredClone(event));
      const fresh = () => structuredClone(whole);
      const refused = events => assert.rejects(judged(events));
      await judged(fresh());
      for (let n = 0; n < whole.length; n += 1) {
        await refused(fresh().toSpliced(n, 1));
        await refused(fresh().toSpliced(n, 0, structuredClone(whole[n])));
        if (n > 0) await refused(fresh().toSpliced(n - 1, 2, structuredClone(whole[n]), structuredClone(whole[n - 1])));
        // Renumbered, so that only what is told can betray it.
        if (whole[n].type !== 'response.in_progress') {
          await refused(fresh().toSpliced(n, 1).map((event, sequence_number) => ({ ...event, sequence_number })));
        }
        if (typeof whole[n].delta === 'string') {
          await refused(fresh().with(n, { ...structuredClone(whole[n]), delta: `${whole[n].delta}x` }));
        }
      }
    });
  }
});
