// The fold of the log is the server's own snapshot, at the end of sessions of every kind and at moments within them.
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { fold, initial } from '../../web/steerage-state.js';
import { Heard, QUICK, SEED, chance, connect, folder, rawLog, serve, sleep } from './common.mjs';

const plain = value => JSON.parse(JSON.stringify(value));

/** Freezes it wholly, so that a fold that changes a state in place is caught. */
function freeze(value) {
  if (value && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
}

/** From a snapshot on, the fold of what follows is that of the whole log, after each event that is no delta. */
function goesOn(snapshot, events, states) {
  let state = freeze(snapshot);
  for (const event of events.slice(Number(snapshot.last_event_id.split('.')[1]))) {
    state = fold(state, event);
    if (!event.type.endsWith('.delta')) assert.deepEqual(plain(state), plain(states.get(event.seq)), `${event.id}, from ${snapshot.last_event_id}`);
  }
}

/** A session that is looked at: its log is folded, and compared at every snapshot that a second reader is given. */
async function look(steerage, id, play, { moments = 12, random = Math.random, base = 'start' } = {}) {
  const session = steerage.session(id, { from: base });
  const [states, events, snapshots] = [new Map(), [], []];
  let state = freeze(initial()), compared = 0, ended = 0, done = false, wrong;
  const waiting = new Map();
  const check = (seq, snapshot) => {
    try {
      assert.deepEqual(plain(states.get(seq)), snapshot, `${id} after ${seq}, ${base}`);
      compared += 1;
    } catch (error) {
      wrong ??= error;
    }
  };
  session.on('event', record => {
    freeze(record.event);
    try { state = freeze(fold(state, record.event)); } catch (error) { wrong ??= error; }
    states.set(record.seq, state);
    if (record.seq) events.push(record.event);
    if (/^run\.(completed|cancelled|failed)$/.test(record.type)) ended += 1;
    const snapshot = waiting.get(record.seq);
    if (snapshot) { waiting.delete(record.seq); check(record.seq, snapshot); }
  });
  session.open();
  const glance = async () => {
    const { snapshot } = await steerage.session(id).page({ from: 'snapshot', limit: 1 });
    snapshots.push(snapshot);
    const seq = Number(snapshot.last_event_id.split('.')[1]);
    if (states.has(seq)) check(seq, snapshot); else waiting.set(seq, snapshot);
  };
  const looking = (async () => {
    for (let moment = 0; !done && moment < 400; moment += 1) {
      await sleep(random() * 1000 / moments);
      if (!done) await glance();
    }
  })();
  // Looked at with every event: what is true for a moment only is seen.
  await play(session, () => state, test => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`never: ${test}; ${JSON.stringify(state).slice(-600)}`)), 30_000);
    const again = () => {
      if (!test(state, ended)) return;
      clearTimeout(timer);
      off();
      resolve();
    };
    const off = session.on('event', again);
    again();
  }));
  done = true;
  await looking;
  for (let waits = 0; waiting.size && waits < 1_000; waits += 1) await sleep(5);
  assert.equal(waiting.size, 0, `${id}: a snapshot of what never came`);
  await glance();
  session.close();
  if (wrong) throw wrong;
  if (base === 'start') for (const snapshot of snapshots) goesOn(snapshot, events, states);
  return { compared, state };
}

/** Runs them, a few at a time: a machine that is busy with all at once is too late for what is to happen in between. */
async function few(jobs, most = 8) {
  const left = [...jobs];
  await Promise.all(Array.from({ length: most }, async () => {
    for (let job; (job = left.shift());) await job();
  }));
}

const idle = state => state.created_at !== '' && state.run === null;
/** So many runs have ended, and nothing runs. */
const rests = runs => (state, ended) => ended >= runs && idle(state);
const waits = state => state.state === 'waiting';
const calls = state => state.messages.flatMap(m => m.content).filter(part => part.type === 'tool_call');
const open = state => calls(state).filter(call => !['completed', 'failed'].includes(call.state));
const client = (more = {}) => ({ name: 'get_weather', description: 'The weather', parameters: { type: 'object' }, ...more });
const builtin = (more = {}) => ({ name: 'get_weather', executor: 'builtin', ...more });
const said = (state, text) => (state.run?.text ?? '').length > text;

/** What is created, and what is done with it until it rests. */
const PLAYS = {
  ...Object.fromEntries(['assistant', 'echo', 'story', 'reasoning'].map(model => [model, [
    { model: `demo/${model}`, input: 'Tell me about 海 and 🧭' }, async (s, _, until) => {
      await until(rests(1));
      await s.send('And then?');
      await until(rests(2));
    },
  ]])),
  ...Object.fromEntries(['error', 'reject', 'truncate', 'empty', 'bad_tool', 'unknown_tool', 'huge'].map(word => [`chaos ${word}`, [
    { model: 'demo/chaos', input: `Please, ${word}!` }, (s, _, until) => until(rests(1)),
  ]])),
  'chaos overloaded': [{ model: 'demo/chaos', input: 'overloaded' }, async (s, _, until) => {
    await until(state => state.run?.attempt >= 1);
    await s.steer('and something else, stall');
    await sleep(300);
    await s.cancel();
    await until(idle);
  }],
  stalled: [{ model: 'demo/chaos', input: 'stall' }, async (s, _, until) => {
    await until(state => said(state, 5));
    await s.cancel({ reason: 'enough' });
    await until(idle);
  }],
  'two tools': [{ model: 'demo/chaos', input: 'two_tools', tools: [client()] }, async (s, get, until) => {
    await until(state => waits(state) && open(state).length === 2);
    const [one, two] = open(get());
    await s.toolResult(one.call_id, { output: { temperature_c: 19 } });
    await s.steer('and be brief');
    await s.toolResult(two.call_id, { error: 'no idea' });
    await until(idle);
  }],
  'client tool': [{ model: 'demo/tools', input: 'Weather in Lisbon?', tools: [client()], system: 'Be brief' }, async (s, get, until) => {
    await until(waits);
    const later = await s.steer('next time', { when: 'next_run' });
    await s.withdraw(later.command_id);
    await s.send('queued');
    await s.toolResult(open(get())[0].call_id, { output: null });
    await until(state => state.queue.length === 0 && waits(state));
    await s.toolResult(open(get())[0].call_id, { output: [1, { a: 'b' }] });
    await until(idle);
  }],
  'client tool with approval': [{ model: 'demo/tools', input: 'Lisbon?', tools: [client({ approval: 'always' })] }, async (s, get, until) => {
    await until(state => state.approvals.length === 1);
    await s.approve(get().approvals[0].approval_id, { arguments: { city: 'Oslo' } });
    await until(state => state.approvals.length === 0 && waits(state));
    await s.toolResult(open(get())[0].call_id, { output: 1 });
    await until(idle);
  }],
  approved: [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin()] }, async (s, get, until) => {
    await until(state => state.approvals.length === 1);
    await s.approve(get().approvals[0].approval_id, { scope: 'session' });
    await until(rests(1));
    await s.send('And Porto?');
    await until(rests(2));
  }],
  edited: [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin()] }, async (s, get, until) => {
    await until(state => state.approvals.length === 1);
    await s.approve(get().approvals[0].approval_id, { arguments: { city: 'Oslo' } });
    await until(idle);
  }],
  denied: [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin()] }, async (s, get, until) => {
    await until(state => state.approvals.length === 1);
    await s.deny(get().approvals[0].approval_id, { message: 'not now' });
    await until(idle);
  }],
  'timed out': [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin({ approval_timeout_s: 1 })] },
    (s, _, until) => until(rests(1))],
  'without asking': [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin({ approval: 'never' })] },
    (s, _, until) => until(rests(1))],
  'cancelled in an approval': [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin()] }, async (s, get, until) => {
    await until(state => state.approvals.length === 1);
    await s.steer('hurry');
    await s.cancel();
    await until(idle);
  }],
  'superseded in an approval': [{ model: 'demo/tools', input: 'Lisbon?', tools: [builtin()] }, async (s, get, until) => {
    await until(state => state.approvals.length === 1);
    await s.send('Never mind', { if_running: 'cancel' });
    await until(state => state.approvals.length === 1);
    await s.cancel({ mode: 'rollback' });
    await until(idle);
  }],
  'ends the run': [{ model: 'demo/tools', input: 'Lisbon?', tools: [client({ ends_run: true })] }, async (s, get, until) => {
    await until(rests(1));
    await s.toolResult(open(get())[0].call_id, { output: { temperature_c: 3 } });
    await until(rests(2));
    await s.send('Porto?');
    await until(rests(3));
    await s.send('Something else');
    await until(rests(4));
  }],
  steered: [{ model: 'demo/story', input: 'A story', params: { tokens_per_second: 30 } }, async (s, _, until) => {
    await until(state => said(state, 20));
    await s.steer('With a dog', { when: 'now' });
    await until(state => state.run?.step === 2 && said(state, 20));
    await s.steer('With a cat');
    await s.steer('Later', { when: 'next_run' });
    await until(rests(2));
  }],
  'rolled back': [{ model: 'demo/story', input: 'A story', params: { tokens_per_second: 30 } }, async (s, _, until) => {
    await until(state => said(state, 20));
    await s.cancel({ mode: 'rollback' });
    await until(idle);
    await s.send('Another');
    await until(state => said(state, 20));
    await s.steer('quick');
    await until(state => state.run?.step === 2 && said(state, 20));
    await s.cancel({ mode: 'rollback' });
    await until(idle);
  }],
  'regenerated and edited': [{ model: 'demo/echo', input: 'one two three' }, async (s, get, until) => {
    await until(rests(1));
    await s.regenerate();
    await until(rests(2));
    const first = get().messages[0].message_id;
    await s.send('two', { message_id: 'mine', if_running: 'cancel' });
    await until(rests(3));
    await s.regenerate();
    await s.cancel({ mode: 'rollback' });
    await until(rests(4));
    await s.send('one, anew', { replaces: first, if_running: 'cancel' });
    await until(rests(5));
    await s.send('with a history', {
      if_running: 'cancel', message_id: 'more', history: [
        { message_id: first, role: 'user', content: 'something else' }, { message_id: 'a', role: 'user', content: 'unheard' },
      ],
    });
    await until(rests(6));
    await s.command({ type: 'deny', approval_id: 'apr_none' }).catch(() => {});
  }],
  'brought along': [{
    model: 'demo/echo', input: [
      { role: 'system', content: 'Be brief' }, { role: 'user', content: 'Lisbon?' },
      { role: 'assistant', reasoning: 'hm', calls: [
        { call_id: 'c1', name: 'get_weather', arguments: {}, output: null }, { call_id: 'c2', name: 'other', arguments: { a: 1 }, error: 'no' },
      ] }, { role: 'user', content: 'Well?' },
    ],
  }, async (s, _, until) => {
    await until(rests(1));
    await s.send('again');
    await s.cancel({ mode: 'rollback' });
    await until(rests(2));
  }],
  'nothing said': [{ model: 'demo/echo', metadata: { a: [1, { b: null }] }, retention_s: 3600 }, async (s, _, until) => {
    await until(idle);
    await s.cancel();
    await s.steer('starts a run');
    await until(rests(1));
  }],
};

export default {
  async 'sessions of every kind, at their ends and at moments within'() {
    const server = await serve();
    const steerage = connect(server.url, { limits: QUICK });
    let compared = 0;
    // At different paces: what a moment shows differs.
    await few(Object.entries(PLAYS).flatMap(([name, [spec, play]], at) => [60, 300].map(tokens_per_second => async () => {
      const random = chance(SEED + at * 1000 + tokens_per_second);
      const { session_id } = await steerage.create({ params: { tokens_per_second }, ...spec });
      try {
        compared += (await look(steerage, session_id, play, { random, moments: 15 })).compared;
      } catch (error) {
        error.message = `${name}: ${error.message}`;
        throw error;
      }
    })));
    await server.kill();
    assert.ok(compared > 100, `${compared}`);
    return `${Object.keys(PLAYS).length} kinds, ${compared} snapshots`;
  },

  async 'after a snapshot in the middle the fold goes on as the server does'() {
    const server = await serve();
    const steerage = connect(server.url, { limits: QUICK });
    let [compared, bases] = [0, 0];
    await few(Object.entries(PLAYS).map(([name, [spec, play]], at) => async () => {
      const { session_id } = await steerage.create({ params: { tokens_per_second: 100 }, ...spec });
      const random = chance(SEED + at);
      const running = look(steerage, session_id, play, { random });
      // Readers who come at moments within, and follow to the end.
      const late = [];
      const follow = () => {
        const heard = new Heard(steerage.session(session_id, { from: 'snapshot' }));
        heard.session.open();
        late.push(heard);
      };
      let over = false;
      const coming = (async () => { for (let n = 0; n < 12 && !over; n += 1) { follow(); await sleep(random() * 250); } })();
      try {
        const { state } = await running;
        over = true;
        await coming;
        for (const heard of late) {
          await heard.until(() => heard.state.last_event_id === state.last_event_id, `${name} ends`);
          assert.deepEqual(plain(heard.state), plain(state), `from ${heard.records[0].id}`);
          heard.session.close();
          compared += 1;
          if (heard.records.length > 2) bases += 1;
        }
      } catch (error) {
        error.message = `${name}: ${error.message}`;
        throw error;
      }
    }));
    await server.kill();
    assert.ok(bases > 50, `${bases}`);
    return `${compared} readers, ${bases} of them in the middle`;
  },

  async 'a server that is killed: recovery in a text, and where tools wait'() {
    const store = `disk:${folder()}/store`;
    let server = await serve({ store });
    const steerage = connect(server.url, { limits: QUICK });
    const lines = await Promise.all([
      ['demo/story', { input: 'A story' }], ['demo/reasoning', { input: 'Think' }], ['demo/echo', { input: 'word '.repeat(200) }],
      ['demo/tools', { input: 'Lisbon?', tools: [client()] }], ['demo/tools', { input: 'Lisbon?', tools: [builtin()] }],
    ].map(async ([model, spec]) => {
      const { session_id } = await steerage.create({ model, params: { tokens_per_second: 40 }, ...spec });
      const heard = new Heard(steerage.session(session_id));
      heard.session.open();
      return heard;
    }));
    for (let kills = 0; kills < 2; kills += 1) {
      await sleep(900);
      await server.kill();
      server = await serve({ store, port: server.port });
    }
    for (const heard of lines) {
      await heard.until(() => heard.ended() || waits(heard.state));
      await heard.until(() => true);
      const snapshot = await heard.session.snapshot();
      await heard.until(() => heard.state.last_event_id === snapshot.last_event_id);
      assert.deepEqual(plain(heard.state), snapshot);
      heard.session.close();
    }
    assert.ok(lines.some(heard => heard.has('run.recovered')));
    await server.kill();
  },

  async 'an upstream that fails, retries and cuts'() {
    // It refuses twice, then answers half of it and breaks off.
    let asked = 0;
    const upstream = http.createServer((request, answer) => {
      request.resume();
      if (request.url.endsWith('/models')) return answer.end(JSON.stringify({ object: 'list', data: [{ id: 'm', object: 'model' }] }));
      asked += 1;
      if (asked <= 2) return answer.writeHead(503, { 'retry-after': '1' }).end('{}');
      answer.writeHead(200, { 'content-type': 'text/event-stream' });
      const piece = text => answer.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: text } }] })}\n\n`);
      piece('Half ');
      piece('of it');
      setTimeout(() => answer.destroy(), 100);
    });
    upstream.listen(0, '127.0.0.1');
    await once(upstream, 'listening');
    const server = await serve({ more: ['--upstream', `local=http://127.0.0.1:${upstream.address().port}/v1`] });
    const steerage = connect(server.url, { limits: QUICK });
    const { session_id } = await steerage.create({ model: 'local/m', input: 'x' });
    const { state, compared } = await look(steerage, session_id, (s, _, until) => until(rests(1)));
    assert.equal(state.last_run.outcome, 'failed');
    assert.ok(asked >= 3);
    upstream.close();
    await server.kill();
    return `${compared} snapshots`;
  },

  async 'an unknown event moves the cursor alone, and what did not change is shared'() {
    const server = await serve();
    const steerage = connect(server.url);
    const { session_id } = await steerage.create({ model: 'demo/tools', input: 'Lisbon?', tools: [builtin({ approval: 'never' })], params: { tokens_per_second: 1000 } });
    const log = (await rawLog(server.url, session_id)).map(raw => JSON.parse(raw));
    const state = log.reduce(fold, initial());
    const next = fold(state, { id: 'aaaaaa.999', seq: 999, type: 'dream.started' });
    assert.deepEqual(plain(next), { ...plain(state), last_event_id: 'aaaaaa.999' });
    assert.equal(next.messages, state.messages);
    assert.equal(fold(state, { type: 'caught_up', seq: 9 }), state);
    // Through JSON the fold goes on, too.
    for (let cut = 1; cut < log.length; cut += 1) {
      const half = plain(log.slice(0, cut).reduce(fold, initial()));
      assert.deepEqual(plain(log.slice(cut).reduce(fold, half)), plain(state), `cut after ${cut}`);
    }
    let before = initial();
    for (const event of log) {
      const after = fold(before, event);
      assert.notEqual(after.state, 'waiting', `${event.id}: the server runs its tools by itself`);
      if (event.type === 'text.delta') {
        assert.equal(after.messages[0], before.messages[0], 'the message that was said stays the same object');
        assert.notEqual(after.messages.at(-1), before.messages.at(-1));
      }
      before = after;
    }
    await server.kill();
  },
};
