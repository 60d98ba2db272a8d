// Commands whose answers are lost, refusals, tokens that end, and a server that has forgotten.
import assert from 'node:assert/strict';
import { SteerageError } from '../../web/steerage-client.js';
import { initial } from '../../web/steerage-state.js';
import { Heard, QUICK, connect, rawLog, serve, sleep } from './common.mjs';
import { tcp, web } from './proxy.mjs';

const KEY = 'sk_client-0123456789abcdef';
const server = await serve();
const direct = connect(server.url);
const create = (input = 'Tell me a story', more = {}) =>
  direct.create({ model: 'demo/echo', input, params: { tokens_per_second: 1000 }, ...more });
const log = async (url, id, headers) => (await rawLog(url, id, headers)).map(raw => JSON.parse(raw));

async function keyed() {
  const own = await serve({ more: ['--api-key', KEY] });
  const steerage = connect(own.url, { token: KEY });
  const { session_id } = await steerage.create({ model: 'demo/story', input: 'A story', params: { tokens_per_second: 25 } });
  return { own, session: steerage.session(session_id), id: session_id };
}

export default {
  async 'an answer that is lost is asked for again: one effect, one receipt'() {
    const { session_id } = await create();
    await rawLog(server.url, session_id);
    let lost = 0;
    const proxy = await tcp(server.port, number => {
      if (number > 3) return {};
      lost += 1;
      return { afterRequest: true };
    });
    const session = connect(proxy.url, { limits: QUICK }).session(session_id);
    const told = [];
    session.on('command', record => told.push(record));
    const receipt = await session.send('And then?');
    assert.equal(lost, 3);
    assert.deepEqual([receipt.status, receipt.replayed], ['applied', true]);
    const said = (await log(server.url, session_id)).filter(e => e.type === 'input.added' && e.content === 'And then?');
    assert.equal(said.length, 1);
    assert.equal(told.length, 2);
    assert.equal(told[0].command.command_id, told[1].command.command_id);
    assert.deepEqual(told[1].receipt, receipt);
    assert.ok(told[1].ms > 0 && Math.abs(told[0].sentAt - Date.now()) < 60_000);
    proxy.close();
  },

  async 'a request that is lost is sent again'() {
    const { session_id } = await create();
    await rawLog(server.url, session_id);
    const proxy = await tcp(server.port, number => number <= 3 ? { hole: () => true, cutMs: 30 } : {});
    const receipt = await connect(proxy.url, { limits: QUICK }).session(session_id).send('Once');
    assert.equal(receipt.status, 'applied');
    assert.equal(receipt.replayed, undefined);
    proxy.close();
  },

  async 'a request without an answer is given up and sent again'() {
    const { session_id } = await create();
    await rawLog(server.url, session_id);
    const proxy = await tcp(server.port, number => number <= 1 ? { hole: () => true } : {});
    const limits = { ...QUICK, requestMs: 300 };
    assert.equal((await connect(proxy.url, { limits }).session(session_id).send('Once')).status, 'applied');
    proxy.close();
  },

  async 'a session is created once, also where its answer is lost'() {
    const proxy = await tcp(server.port, number => number <= 2 ? { afterRequest: true } : {});
    const steerage = connect(proxy.url, { limits: QUICK });
    const snapshot = await steerage.create({ model: 'demo/echo', input: 'Hello' });
    const created = (await log(server.url, snapshot.session_id)).filter(e => e.type === 'session.created');
    assert.equal(created.length, 1);
    await assert.rejects(steerage.create({ id: snapshot.session_id, input: 'Hello' }), { code: 'session_exists', status: 409 });
    proxy.close();
  },

  async 'every refusal is typed, and only what may pass is tried again'() {
    const { session_id } = await create();
    await rawLog(server.url, session_id);
    const proxy = await web(server.port, { hold: () => Infinity });
    const session = connect(proxy.url, { limits: QUICK }).session(session_id);
    for (const [give, status, code] of [
      [() => session.approve('apr_none'), 404, 'unknown_approval'], [() => session.toolResult('none', { output: 1 }), 404, 'unknown_call'],
      [() => session.withdraw('none'), 404, 'unknown_target'], [() => session.steer('x', { if_idle: 'reject' }), 409, 'no_active_run'],
      [() => session.send(''), 400, 'invalid_command'], [() => session.command({ type: 'dance' }), 400, 'unknown_type'],
      [() => session.send('x'.repeat(70_000)), 413, 'payload_too_large'],
    ]) {
      proxy.requests.length = 0;
      const error = await give().then(() => assert.fail(code), error => error);
      assert.ok(error instanceof SteerageError);
      assert.deepEqual([error.status, error.code, error.passes], [status, code, false]);
      assert.equal(error.problem.code, code);
      assert.ok(error.message.length > 5);
      assert.equal(proxy.requests.length, 1, `${code} is asked once`);
    }
    const twice = { command_id: 'same', type: 'send', content: 'a' };
    await session.command(twice);
    await assert.rejects(session.command({ ...twice, content: 'b' }), { code: 'command_conflict' });
    assert.equal((await session.cancel()).reason, 'no_active_run', 'a stop that finds nothing is what was wanted');
  },

  async 'Retry-After is waited; patience and a signal end it'() {
    const { session_id } = await create();
    await rawLog(server.url, session_id);
    let left = 1, status = 429, body = JSON.stringify({ code: 'busy', detail: 'busy' }), after = { 'retry-after': '1' };
    const answer = () => left-- > 0 ? { status, headers: { ...after, 'content-type': 'application/problem+json' }, body } : undefined;
    const proxy = await web(server.port, { hold: () => Infinity, answer });
    const began = performance.now();
    const session = connect(proxy.url, { limits: QUICK }).session(session_id);
    assert.equal((await session.send('a')).status, 'applied');
    assert.ok(performance.now() - began >= 995);
    // No patience helps a session that is full.
    [left, body] = [1, JSON.stringify({ code: 'session_limit', detail: 'full' })];
    await assert.rejects(session.send('b'), { code: 'session_limit' });
    // Every 5xx is tried, until the time is over.
    [left, status, body, after] = [Infinity, 502, '<html>bad gateway</html>', {}];
    proxy.requests.length = 0;
    const short = connect(proxy.url, { limits: { retryMinMs: 10, retryMaxMs: 80, commandMs: 500 } }).session(session_id);
    await assert.rejects(short.send('c'), { code: 'http_502', status: 502 });
    assert.ok(proxy.requests.length >= 6 && proxy.requests.length <= 40, `${proxy.requests.length} tries`);
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error('enough')), 100);
    await assert.rejects(session.send('d', { signal: stop.signal }), { message: 'enough' });
    // 200 of a portal that answers for everybody.
    [left, status, body] = [1, 200, '<html>log in</html>'];
    assert.equal((await session.send('e')).status, 'applied');
    const nowhere = connect('http://127.0.0.1:1', { limits: { ...QUICK, commandMs: 100 } });
    await assert.rejects(nowhere.session('x').send('a'), { code: 'unreachable', status: 0 });
    await assert.rejects(nowhere.models(), { code: 'unreachable' });
  },

  async 'every command, and the rest of the calls'() {
    const weather = { name: 'get_weather', parameters: { type: 'object' } };
    const id = (await direct.create({
      model: 'demo/tools', input: 'Weather in Lisbon?', tools: [weather], params: { tokens_per_second: 500 },
    })).session_id;
    const heard = new Heard(direct.session(id));
    heard.session.open();
    const { session } = heard;
    await heard.until(() => heard.state.state === 'waiting');
    const steer = await session.steer('Shorter', { when: 'next_step' });
    assert.equal(steer.status, 'accepted');
    assert.equal((await session.withdraw(steer.command_id)).status, 'applied');
    const call = heard.state.messages.flatMap(m => m.content).find(part => part.type === 'tool_call');
    await session.toolResult(call.call_id, { output: { temperature_c: 19 } });
    await heard.until(() => heard.ended());
    await session.regenerate();
    await heard.until(() => heard.state.state === 'waiting');
    await session.cancel({ mode: 'rollback' });
    await heard.until(() => heard.ended(2));
    assert.deepEqual(JSON.parse(JSON.stringify(heard.state)), await session.snapshot());
    assert.ok((await direct.models()).some(model => model.id === 'demo/tools'));
    assert.ok((await direct.sessions({ limit: 200 })).sessions.some(one => one.session_id === id));
    const page = await session.page({ after: heard.records[3].id, limit: 2 });
    assert.deepEqual(page.events.map(e => e.id), heard.records.slice(4, 6).map(r => r.id));
    await session.delete();
    await heard.until(() => session.connection.status === 'closed');
    assert.equal(session.connection.reason, 'deleted');
    await assert.rejects(session.snapshot(), { code: 'session_not_found' });
    session.open();
    await heard.until(() => session.connection.reason === 'session_not_found');
  },

  async 'a fixed token that ends closes the session, over every transport'() {
    const { own, session, id } = await keyed();
    await Promise.all(['sse', 'websocket', 'poll'].map(async transport => {
      const { token } = await session.mint({ verbs: ['read'], ttl_s: 2 });
      const heard = new Heard(connect(own.url, { token, limits: { ...QUICK, waitS: 1 } }).session(id, { transport }));
      heard.session.open();
      await heard.until(() => heard.records.length > 4);
      await heard.until(() => heard.session.connection.status === 'closed');
      assert.equal(heard.session.connection.reason, 'unauthorized', transport);
      await assert.rejects(heard.session.send('x'), error => error.status === 401 || error.status === 403);
      if (transport !== 'poll') assert.ok(heard.notices.some(({ type }) => type === 'auth_expired'));
    }));
    await own.kill();
  },

  async 'a token that ends is asked for again, and the log goes on at the cursor'() {
    const { own, session, id } = await keyed();
    const used = [];
    const figures = await Promise.all(['sse', 'websocket', 'poll'].map(async transport => {
      const asked = [];
      const token = async ({ reason }) => {
        asked.push(reason);
        return (await session.mint({ verbs: ['read', 'send'], ttl_s: 2 })).token;
      };
      const heard = new Heard(connect(own.url, { token, limits: { ...QUICK, waitS: 1 } }).session(id, { transport }));
      heard.session.open();
      await heard.until(() => heard.ended());
      heard.isLog(await rawLog(own.url, id, { authorization: `Bearer ${KEY}` }));
      assert.equal(asked[0], 'first');
      assert.ok(asked.length >= 3 && asked.length < 30, `asked ${asked.length} times`);
      assert.ok(asked.slice(1).every(reason => ['expiring', 'expired', 'unauthorized'].includes(reason)), asked.join());
      heard.session.close();
      used.push(heard.session);
      return `${transport} ${asked.length} tokens, ${heard.session.connection.opened} connections`;
    }));
    // A command with a token that has ended by now.
    await sleep(2_500);
    for (const one of used) assert.match((await one.send('x')).status, /applied|accepted/);
    await own.kill();
    return figures.join(', ');
  },

  async 'a wrong token is asked for once more, and not for ever; a door that fails is waited for'() {
    const { own, id } = await keyed();
    let asked = 0;
    const wrong = new Heard(connect(own.url, { token: () => `sk_wrong-${++asked}`, limits: QUICK }).session(id));
    wrong.session.open();
    await wrong.until(() => wrong.session.connection.status === 'closed');
    assert.equal(wrong.session.connection.reason, 'unauthorized');
    assert.ok(asked <= 2, `asked ${asked} times`);
    let fails = 2;
    const token = () => { if (fails-- > 0) throw new Error('the application is away'); return KEY; };
    const heard = new Heard(connect(own.url, { token, limits: QUICK }).session(id));
    heard.session.open();
    await heard.until(() => heard.records.length > 5);
    heard.session.close();
    // One that takes its time is no network that holds back.
    const slow = new Heard(connect(own.url, {
      token: () => sleep(600).then(() => KEY), limits: { ...QUICK, openingMs: 200 },
    }).session(id));
    slow.session.open();
    await slow.until(() => slow.records.length > 5);
    assert.deepEqual([slow.session.connection.opened, slow.session.connection.fellBack], [1, []]);
    slow.session.close();
    const reader = await connect(own.url, { token: KEY }).session(id).mint({ verbs: ['send'] });
    const blind = new Heard(connect(own.url, { token: reader.token, limits: QUICK }).session(id));
    blind.session.open();
    await blind.until(() => blind.session.connection.status === 'closed');
    assert.equal(blind.session.connection.reason, 'verb_not_allowed');
    await own.kill();
  },

  async 'a server that has forgotten: not found; with another history: reset, and its snapshot'() {
    for (const transport of ['sse', 'websocket', 'poll']) {
      let own = await serve();
      const steerage = connect(own.url, { limits: QUICK });
      const make = text => steerage.create({ id: 'same', model: 'demo/echo', input: text, params: { tokens_per_second: 500 } });
      await make('the first history');
      const heard = new Heard(steerage.session('same', { transport }));
      heard.session.open();
      await heard.until(() => heard.ended());
      heard.session.close();
      const { cursor } = heard.session;
      await own.kill();
      own = await serve({ port: own.port });
      await make('the second one');
      heard.session.open();
      await heard.until(() => heard.notices.some(({ type }) => type === 'reset') && heard.has('snapshot'), 'reset');
      await heard.until(() => heard.ended(2) || heard.state.last_run);
      assert.notEqual(heard.session.cursor, cursor);
      assert.deepEqual(JSON.parse(JSON.stringify(heard.state)), await heard.session.snapshot());
      assert.ok(!JSON.stringify(heard.state).includes('first history'));
      await own.kill();
      own = await serve({ port: own.port });
      await heard.until(() => heard.session.connection.status === 'closed');
      assert.equal(heard.session.connection.reason, 'session_not_found');
      await own.kill();
    }
    assert.deepEqual(initial().messages, []);
  },

  async 'from a snapshot, from now, after a cursor: over every transport'() {
    const { session_id } = await create('one two three '.repeat(100), { params: { tokens_per_second: 100 } });
    await Promise.all(['sse', 'websocket', 'poll'].flatMap(transport => ['snapshot', 'now', 'after'].map(async from => {
      const begin = from === 'after' ? { after: (await direct.session(session_id).page({ limit: 4 })).events[2].id } : { from };
      const heard = new Heard(connect(server.url, { limits: QUICK }).session(session_id, { transport, ...begin }));
      heard.session.open();
      await heard.until(() => heard.records.length > 2);
      // Lost and found in the middle of it.
      heard.session.close();
      heard.session.open();
      await heard.until(() => heard.ended());
      const all = await rawLog(server.url, session_id);
      const stored = heard.records.filter(({ type }) => type !== 'snapshot');
      const first = JSON.parse(all[0]).seq, offset = stored[0].seq - first;
      assert.deepEqual(stored.map(({ raw }) => raw), all.slice(offset), `${transport} ${from}`);
      if (from === 'after') assert.equal(stored[0].seq, 4);
      else assert.ok(stored[0].seq > 4);
      assert.equal(heard.has('snapshot'), from === 'snapshot');
      if (from === 'snapshot') {
        assert.equal(heard.records[0].seq + 1, stored[0].seq);
        assert.deepEqual(JSON.parse(JSON.stringify(heard.state)), await heard.session.snapshot());
      }
      heard.session.close();
    })));
  },
};
