// The WebSocket of the SDK: create, steer, lanes, and what goes wrong.
import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { judged, terminal } from './harness/judge.mjs';
import { play, ResponsesWS, until, version } from './harness/stage.mjs';
import { few, words } from './harness/upstream.mjs';

/** A socket whose messages are taken one after the other; what is said of steers goes aside. */
class Socket {
  #queue = [];
  steers = [];

  static async open(stage) {
    const socket = new Socket();
    socket.ws = new ResponsesWS(stage.client);
    stage.later(() => socket.ws.close());
    // An error of the protocol is an event as well.
    socket.ws.on('error', () => {});
    socket.ws.on('event', event => socket.#queue.push(event));
    return socket;
  }

  send(event) { this.ws.send(event); }
  create(input, more) { this.send({ type: 'response.create', model: 'mock/x', input, ...more }); }
  steer(previous_response_id, input) { this.send({ type: 'response.steer', previous_response_id, input }); }
  async next() { await until(() => this.#queue.length > 0, 'a message'); return this.#queue.shift(); }

  async until(matches, seen = []) {
    for (;;) {
      const event = await this.next();
      (event.type.startsWith('response.steer.') ? this.steers : seen).push(event);
      if (matches(event)) return seen;
    }
  }
  end(seen) { return this.until(({ type }) => terminal.includes(type), seen); }
  shown(text) {
    // Several words may be one delta.
    let so_far = '';
    return this.until(({ type, delta }) => type === 'response.output_text.delta' && (so_far += delta).includes(text));
  }
}

play('socket', {}, scene => {
  scene('create', async stage => {
    const socket = await Socket.open(stage);
    socket.create(`fast 20 ${stage.name}`);
    const first = await judged(await socket.end());
    assert.equal(first.text, `${words(20)}to the end of ${stage.name}.`);
    socket.create(`hello ${stage.name}`, { previous_response_id: first.id });
    assert.equal((await judged(await socket.end())).text, `You said hello ${stage.name}.`);
  });

  scene('steer', async stage => {
    const socket = await Socket.open(stage);
    socket.create(`hold ${stage.name}`);
    const seen = await socket.shown('more ');
    const { id } = seen[0].response;
    socket.steer(id, `rather ${stage.name}`);
    const first = await judged(await socket.end(seen));
    assert.deepEqual([first.end.status, first.end.incomplete_details.reason, first.text], ['incomplete', 'steered', few]);
    const second = await judged(await socket.end());
    assert.equal(second.text, `You said rather ${stage.name}.`);
    assert.deepEqual([second.id, second.end.previous_response_id], [first.end.metadata.steerage_successor, id]);
    assert.deepEqual(socket.steers.map(({ type }) => type), ['response.steer.accepted']);
    assert.equal(socket.steers[0].steer.previous_response_id, id);
    assert.ok(stage.upstream.about(`hold ${stage.name}`)[0].closed);
  });

  scene('a steer that comes back', async stage => {
    const socket = await Socket.open(stage);
    socket.create(`hello ${stage.name}`);
    const { id } = await judged(await socket.end());
    for (const [response_id, input, code] of [
      [id, 'too late', 'response_already_completed'], ['resp_nobody_aaaaaa_1', 'x', 'response_not_found'],
    ]) {
      socket.steer(response_id, input);
      const event = await socket.next();
      assert.deepEqual([event.type, event.error.code, event.steer.input], ['response.steer.failed', code, input]);
    }
  });

  scene('a steer waits for an approval', async stage => {
    const socket = await Socket.open(stage);
    socket.create('What is the weather in Lisbon?', { model: 'demo/tools' });
    const { id } = await judged(await socket.end());
    socket.steer(id, 'and be brief');
    await socket.until(({ type }) => /^response\.steer\.(pending|failed)$/.test(type));
    const pending = socket.steers.at(-1);
    assert.deepEqual([pending.type, pending.reason], ['response.steer.pending', 'waiting_for_required_input']);
    const [stub] = pending.required_input;
    socket.create([{ ...stub, approve: true }], { model: 'demo/tools', previous_response_id: id });
    assert.ok(['completed', 'incomplete'].includes((await judged(await socket.end())).end.status));
  });

  scene('two lanes', async stage => {
    const socket = await Socket.open(stage);
    const lanes = { left: [], right: [] };
    for (const lane of Object.keys(lanes)) socket.create(`slow 30 ${lane} ${stage.name}`, { stream_id: lane });
    while (!Object.values(lanes).every(lane => terminal.includes(lane.at(-1)?.type))) {
      const event = await socket.next();
      lanes[event.stream_id].push(event);
    }
    for (const [lane, events] of Object.entries(lanes)) {
      assert.equal((await judged(events)).text, `${words(30)}to the end of ${lane} ${stage.name}.`);
    }
  });

  scene('the lanes of the SDK itself', { skip: version === '6' && 'this SDK version has no lanes' }, async stage => {
    const { ResponsesWebSocketSession } = await import(`openai${version}/lib/responses/responses-websocket-session`);
    const ws = new ResponsesWS(stage.client);
    const session = new ResponsesWebSocketSession(ws, { maxLanes: 4, maxBufferedEvents: 9_000, maxBufferedBytes: 1 << 25 });
    stage.later(() => { session.close(); ws.close(); });
    const lanes = ['left', 'right'].map(name => [name, session.lane(name)]);
    await until(() => ws.socket.readyState === WebSocket.OPEN, 'the socket opens');
    for (const [name, lane] of lanes) lane.create({ model: 'mock/x', input: `slow 20 ${name} ${stage.name}` });
    for (const [name, lane] of lanes) {
      assert.equal((await lane.finalResponse()).output_text, `${words(20)}to the end of ${name} ${stage.name}.`);
    }
  });

  scene('what is wrong is named, and the socket stays', async stage => {
    const socket = await Socket.open(stage);
    for (const [message, status, code] of [
      [{ type: 'response.nothing' }, 400],
      [{ type: 'response.create', model: 'mock/x', input: 'x', previous_response_id: 'resp_nobody_aaaaaa_1' }, 400, 'previous_response_not_found'],
      [{ type: 'response.create', model: 'nobody/x', input: 'x' }, 404, 'model_not_found'],
      [{ type: 'response.create', model: 'mock/x', input: 'x', stream_id: 'not a lane' }, 400, 'invalid_stream_id'],
    ]) {
      socket.send(message);
      const event = await socket.next();
      assert.deepEqual([event.type, event.status], ['error', status], JSON.stringify(event));
      if (code) assert.equal(event.error.code, code);
    }
    socket.create(`hello ${stage.name}`);
    assert.equal((await judged(await socket.end())).text, `You said hello ${stage.name}.`);
  });

  scene('a lost socket stops nothing', async stage => {
    const socket = await Socket.open(stage);
    socket.create(`slow 40 ${stage.name}`);
    const seen = await socket.shown('word5 ');
    socket.ws.close();
    const { response: { id } } = seen[0];
    const rest = await stage.client.responses.retrieve(id, { stream: true, starting_after: seen.at(-1).sequence_number });
    for await (const event of rest) seen.push(event);
    assert.equal((await judged(seen)).text, `${words(40)}to the end of ${stage.name}.`);
  });
});
