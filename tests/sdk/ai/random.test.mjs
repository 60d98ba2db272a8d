// Whatever a person does in whatever order: the next message is answered, what is shown is in the log, and the model is
// told what the client's history says, with our words where an answer is concerned.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocketChatTransport } from 'ai';
import WebSocket from 'ws';
import { ai5, ai7, dialects, play } from './harness/stage.mjs';
import { of, runs } from './harness/server.mjs';
import { textOf } from './harness/tab.mjs';

const SEEDS = Number(process.env.STEERAGE_SDK_SEEDS ?? 6);
const STEPS = 12;

/** Numbers from a seed (mulberry32), so that a failure can be had again. */
function dice(seed) {
  let state = seed;
  return below => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const actions = {
  async say({ tab, word }) { await tab.say(word('short')); },
  async sayAndGoAway({ tab, word, roll }) {
    const saying = tab.say(word('slow'));
    await tab.shows(1 + roll(100));
    await tab.chat.stop();
    await saying;
  },
  async sayAndRepent({ tab, word, roll }) {
    const saying = tab.say(word('slow'));
    await sleep(roll(8));
    await tab.chat.stop();
    await saying;
  },
  async sayAndStop({ tab, word, roll, stage }) {
    const saying = tab.say(word('slow'));
    await sleep(roll(60));
    await stage.server.stopChat(tab.id);
    // The stop may have come before the message: then it is stopped in vain.
    await saying;
  },
  async sayAndLoseTheNetwork({ tab, word, roll, proxy }) {
    const saying = tab.say(word('slow'));
    await sleep(20 + roll(100));
    proxy.cut();
    await saying;
    if (tab.status === 'error') await tab.resume();
  },
  async resume({ tab }) { await tab.resume(); },
  async regenerate({ tab }) { if (tab.messages.at(-1)?.role === 'assistant') await tab.chat.regenerate(); },
  async edit({ tab, word, roll }) {
    const asked = tab.messages.filter(message => message.role === 'user');
    if (asked.length > 0) await tab.chat.sendMessage({ text: word('edited'), messageId: asked[roll(asked.length)].id });
  },
  /** Left out is left out at once: a resume would bring it back, without its question. */
  async forgetAndSay({ tab, word, roll }) {
    const ends = tab.messages.flatMap((message, at) => (message.role === 'assistant' ? [at + 1] : []));
    if (ends.length > 0) tab.chat.messages = tab.messages.slice(0, ends[roll(ends.length)]);
    await tab.say(word('short'));
  },
};

const body = { model: 'mock/x' };

/** The other transport of ai 7, where a stop is a cancel. */
function socket(stage, { url }) {
  const webSocket = stage.oracle.webSocket(WebSocket, stage.dialect.of);
  const transport = new WebSocketChatTransport({ url: `${url}/v1/ai-sdk/chat/ws`, webSocket, body });
  stage.later(() => transport.close());
  return () => transport;
}

play('random', { upstream: true, concurrency: 3 }, scene => {
  const seeds = Array.from({ length: SEEDS }, (_, n) => n + 1);
  const ways = seeds.flatMap(seed => [[seed, false, dialects], [seed, true, [ai7]]]);
  for (const [seed, overSocket, versions] of ways) {
    scene(`seed ${seed}${overSocket ? ' over a WebSocket' : ''}`, versions, async stage => {
      const proxy = await stage.proxy();
      const roll = dice(seed);
      // The doubling of ai 5 is in resume.test.mjs: here it takes no break for a disconnect.
      const browser = stage.dialect !== ai5;
      const tab = stage.tab({ body, url: proxy.url, browser, transport: overSocket ? socket(stage, proxy) : undefined });
      let said = 0;
      const word = verb => `${verb} ${said += 1} of ${tab.id.slice(0, 8)}`;
      const done = [];
      try {
        for (let step = 0; step < STEPS; step += 1) {
          const name = Object.keys(actions)[roll(Object.keys(actions).length)];
          done.push(name);
          await actions[name]({ stage, tab, proxy, word, roll });
        }
        done.push('last');
        const last = word('last');
        await tab.say(last);
        await tab.rests();
        assert.equal(tab.text, `You said ${last}.`);
        const events = await tab.log();
        const log = runs(events);
        await tab.agrees({ partial: tab.answers.slice(0, -1).map(answer => answer.id) });
        assert.ok(log.every(run => run.end), 'every run has its end');

        const told = stage.upstream.about(last)[0].messages;
        const asked = told.filter(({ role }) => role === 'user').flatMap(({ content }) => content.split('\n').filter(Boolean));
        // A question that was given up before it was sent may stand before an answer that we know: then it is ignored,
        // and said to be.
        const ignored = of(events, 'history.diverged').at(-1)?.ignored ?? [];
        const shown = tab.messages.filter(({ id, role }) => role === 'user' && !ignored.includes(id));
        assert.deepEqual(asked, shown.map(textOf));
        const answered = told.filter(({ role }) => role === 'assistant').map(({ content }) => content.trim());
        const ours = tab.answers.slice(0, -1).map(answer => log.find(run => run.id === answer.id).text.trim());
        assert.deepEqual(answered, ours.filter(Boolean));
      } catch (error) {
        throw new Error(`after ${done.join(' ')}`, { cause: error });
      }
    });
  }
});
