// Exactly once, whatever is cut.
import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { Heard, QUICK, SEED, chance, connect, folder, rawLog, serve, sleep } from './common.mjs';
import { tcp } from './proxy.mjs';

const CUTS = 500;
const words = (count, random) => Array.from({ length: count },
  () => ['Steuerbord', 'naïve', '海', '🧭', '\\"quoted\\"', 'a{b}[c]', 'データ', 'x'][Math.floor(random() * 8)]).join(' ');

export default {
  async '500 cuts over each transport, and the server killed twice meanwhile'() {
    const store = `disk:${folder()}/store`;
    let server = await serve({ store });
    const { url, port } = server;
    const direct = connect(url);
    const lines = await Promise.all(['sse', 'websocket', 'poll', 'auto'].map(async (transport, at) => {
      const random = chance(SEED + at);
      const { session_id } = await direct.create({
        model: 'demo/echo', input: words(4000, random), params: { tokens_per_second: 150 },
      });
      const done = () => proxy.cuts >= CUTS;
      const proxy = await tcp(port, () => done() ? {} : {
        // A page comes whole or not at all: some must get through.
        cutBytes: Math.ceil(random() * (random() < 0.5 ? 4_000 : 200_000)), cutMs: 2 + random() * 70,
      });
      const session = connect(proxy.url, { limits: QUICK }).session(session_id, { transport });
      const heard = new Heard(session);
      session.open();
      return { transport, proxy, session, heard };
    }));
    const least = () => Math.min(...lines.map(({ proxy }) => proxy.cuts));
    for (const kill of [CUTS / 4, CUTS / 2]) {
      while (least() < kill) await sleep(20);
      await server.kill();
      await sleep(300);
      server = await serve({ store, port });
    }
    const figures = [];
    for (const { transport, proxy, session, heard } of lines) {
      await heard.until(() => heard.ended() && proxy.cuts >= CUTS, `${transport} ends, ${CUTS} cuts`);
      heard.isLog(await rawLog(url, session.id));
      assert.ok(heard.has('run.recovered') || transport !== 'sse', 'it ran while the server was killed');
      assert.deepEqual(session.connection.fellBack, []);
      assert.deepEqual(JSON.parse(JSON.stringify(heard.state)), await direct.session(session.id).snapshot());
      session.close();
      proxy.close();
      figures.push(`${transport} ${proxy.cuts} cuts ${session.connection.opened} connections ${heard.records.length} events`);
    }
    await server.kill();
    return figures.join(', ');
  },

  async 'frames and letters split at every byte'() {
    const server = await serve();
    const direct = connect(server.url);
    const { session_id } = await direct.create({
      model: 'demo/echo', input: words(150, chance(SEED)), params: { tokens_per_second: 2000 },
    });
    const log = await rawLog(server.url, session_id);
    /** A body that comes byte by byte, however TCP joined it. */
    const bytewise = async (...args) => {
      const response = await fetch(...args);
      const split = new TransformStream({
        transform(piece, out) { for (let at = 0; at < piece.length; at += 1) out.enqueue(piece.slice(at, at + 1)); },
      });
      return new Response(response.body.pipeThrough(split), response);
    };
    const proxy = await tcp(server.port, () => ({ drip: true }));
    for (const [transport, steerage] of [
      ['sse', connect(server.url, { fetch: bytewise })], ['sse', connect(proxy.url)],
      ['websocket', connect(proxy.url)], ['poll', connect(proxy.url)],
    ]) {
      const heard = new Heard(steerage.session(session_id, { transport }));
      heard.session.open();
      await heard.until(() => heard.ended(), `${transport} ends`);
      heard.isLog(log);
      assert.equal(heard.session.connection.opened, 1);
      heard.session.close();
    }
    proxy.close();
    await server.kill();
  },

  async 'a message that is lost, one that comes twice, and one that is no JSON'() {
    const server = await serve();
    const { session_id } = await connect(server.url).create({
      model: 'demo/echo', input: words(300, chance(SEED)), params: { tokens_per_second: 2000 },
    });
    const log = await rawLog(server.url, session_id);
    for (const transport of ['sse', 'websocket', 'poll']) {
      const random = chance(SEED);
      const did = { lost: 0, doubled: 0, broken: 0 };
      /** What becomes of one message: 0, 1 or 2 of it. */
      const mangle = message => {
        const dice = random();
        if (!message.includes('"seq"') || dice > 0.06) return [message];
        if (dice < 0.02) { did.lost += 1; return []; }
        if (dice < 0.04) { did.doubled += 1; return [message, message]; }
        did.broken += 1;
        return [message.replace('"seq":', '"seq";')];
      };
      const mangled = async (...args) => {
        const response = await fetch(...args);
        if (transport === 'poll') {
          const [, events, rest] = (await response.text()).match(/^\{"events":\[(.*)\](,"last_event_id":.*)$/s);
          const each = events.split(/,(?=\{"id":")/).flatMap(mangle);
          return new Response(`{"events":[${each}]${rest}`, response);
        }
        let left = '';
        const split = new TransformStream({
          transform(text, out) {
            const frames = (left + text).split('\n\n');
            left = frames.pop();
            for (const frame of frames.flatMap(mangle)) out.enqueue(`${frame}\n\n`);
          },
        });
        const body = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(split).pipeThrough(new TextEncoderStream());
        return new Response(body, response);
      };
      class Mangled extends WebSocket {
        set onmessage(heard) { super.onmessage = ({ data }) => mangle(data).forEach(text => heard({ data: text })); }
      }
      const steerage = connect(server.url, { limits: QUICK, ...(transport === 'websocket' ? { WebSocket: Mangled } : { fetch: mangled }) });
      const heard = new Heard(steerage.session(session_id, { transport }));
      heard.session.open();
      await heard.until(() => heard.ended(), `${transport} ends`);
      heard.isLog(log);
      assert.ok(did.lost > 0 && did.doubled > 0 && did.broken > 0, JSON.stringify(did));
      heard.session.close();
    }
    await server.kill();
  },
};
