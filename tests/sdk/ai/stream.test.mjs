// An answer is streamed: what is shown is what the log says, and the log knows the message under the client's id.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { ai7, play } from './harness/stage.mjs';
import { of, post, runs } from './harness/server.mjs';
import { partsOf, textOf, user } from './harness/tab.mjs';

const quick = { tokens_per_second: 300 };

play('stream', {}, scene => {
  scene('a story is shown as it is in the log', async stage => {
    const tab = stage.tab({ body: { model: 'demo/story', params: quick } });
    await tab.say('Tell me a story');
    await tab.rests();
    const [run] = await tab.agrees();
    assert.ok(run.text.length > 800);
    assert.match(tab.answer.id, /^run_/);
    assert.deepEqual(tab.answer.parts.map(part => part.type), ['step-start', 'text']);
    assert.equal(tab.messages.length, 2);
    const events = await tab.log();
    assert.equal(of(events, 'input.added')[0].message_id, tab.messages[0].id, 'it keeps the id the client gave it');
    assert.equal(tab.finishes.length, 1);
    assert.equal(tab.finishes[0].finishReason, 'stop');
    assert.equal(tab.finishes[0].isDisconnect || tab.finishes[0].isError, false);
  });

  scene('the answer has the headers of the protocol', async stage => {
    const tab = stage.tab({ body: { model: 'demo/echo', params: quick } });
    await tab.say('Hello');
    const { headers, status } = tab.posts[0];
    assert.equal(status, 200);
    assert.match(headers.get('content-type'), /^text\/event-stream/);
    assert.equal(headers.get('x-vercel-ai-ui-message-stream'), 'v1');
    assert.equal(headers.get('cache-control'), 'no-cache, no-transform');
    assert.equal(headers.get('x-accel-buffering'), 'no');
    assert.equal(headers.get('steerage-session'), tab.id, 'a chat id that is a session id is the session id');
    const started = of(await tab.log(), 'run.started')[0];
    assert.equal(headers.get('x-workflow-run-id'), `${tab.id}~${started.id}`);
  });

  scene('thinking is shown as reasoning', async stage => {
    const tab = stage.tab({ body: { model: 'demo/reasoning', params: quick } });
    await tab.say('Why do ships float?');
    await tab.rests();
    const [run] = await tab.agrees();
    assert.ok(run.reasoning.length > 0 && partsOf(tab.answer, 'reasoning').every(part => part.state === 'done'));
  });

  scene('our own events come as transient data and leave nothing in the message', async stage => {
    const tab = stage.tab({ body: { model: 'demo/echo', params: quick } });
    await tab.say('Hello');
    const told = tab.data.map(part => part.data.type);
    for (const type of ['run.started', 'run.completed']) assert.ok(told.includes(type), String(told));
    assert.ok(tab.data.every(part => part.type === 'data-steerage' && part.transient === true));
    const events = await tab.log();
    for (const { data } of tab.data) assert.deepEqual(data, events.find(event => event.id === data.id), 'as it is in the log');
    assert.equal(tab.answer.parts.some(part => part.type.startsWith('data-')), false);
  });

  scene('a second turn has its own answer and no quarrel about the first', async stage => {
    const tab = stage.tab({ body: { model: 'demo/echo', params: quick } });
    await tab.say('first words');
    await tab.say('second words');
    const said = await tab.agrees();
    assert.deepEqual(said.map(run => run.text), ['first words', 'second words']);
    assert.deepEqual(tab.messages.map(message => message.role), ['user', 'assistant', 'user', 'assistant']);
    assert.equal((await tab.log()).filter(event => event.type.startsWith('history.')).length, 0);
  });

  scene('text that looks like framing is text', async stage => {
    const tab = stage.tab({ body: { model: 'demo/echo', params: quick } });
    const text = 'a\n\nb\r\nc\u2028d\u0000e data: [DONE]\n\ndata: {"type":"error","errorText":"x"}\n\n: f 🚢 \ufeff end';
    await tab.say(text);
    await tab.rests();
    assert.equal(tab.text, text);
    await tab.say('and then');
    await tab.agrees();
    assert.deepEqual((await tab.log()).filter(event => event.type.startsWith('history.')), []);
  });

  scene('any chat id will do, and can be resumed', async stage => {
    const id = `a chat/with ütf & "marks"? ${crypto.randomUUID()}`;
    const tab = stage.tab({ id, body: { model: 'demo/echo', params: quick } });
    await tab.say('Hello');
    await tab.agrees();
    const digest = createHash('sha256').update(id).digest('hex').slice(0, 32);
    assert.equal(tab.session(), `chat-${digest}`);
    const other = stage.tab({ id, messages: tab.messages.slice(0, 1) });
    await other.resume();
    assert.equal(other.requests[0].status, 200);
    assert.deepEqual(other.messages.map(textOf), tab.messages.map(textOf));
  });

  scene('an application that sends only the last message has its whole chat', async stage => {
    const prepareSendMessagesRequest = ({ id, messages, body }) => ({ body: { ...body, id, message: messages.at(-1) } });
    const transport = settings => {
      const { constructor } = stage.tab().transport;
      return new constructor({ ...settings, prepareSendMessagesRequest });
    };
    const tab = stage.tab({ body: { model: 'demo/echo', params: quick }, transport });
    await tab.say('one');
    await tab.say('two');
    assert.deepEqual((await tab.agrees()).map(run => run.text), ['one', 'two']);
    assert.equal(of(await tab.log(), 'history.rewound').length, 0);
  });

  scene('the same request again replays the run', [ai7], async stage => {
    stage.quiet = true;
    const id = crypto.randomUUID();
    const body = { id, model: 'demo/echo', params: quick, trigger: 'submit-message', messages: [user('once only')] };
    const answers = [];
    for (let n = 0; n < 3; n += 1) answers.push(await post(stage.server.chat(), body));
    assert.equal(answers[0].status, 200);
    const chunks = answer => answer.text.split('\n').filter(line => line.startsWith('data: {'));
    const shown = answer => chunks(answer).map(line => JSON.parse(line.slice(6))).filter(chunk => chunk.type === 'text-delta')
      .map(chunk => chunk.delta).join('');
    for (const answer of answers) {
      assert.equal(shown(answer), 'once only');
      assert.equal(chunks(answer)[0], chunks(answers[0])[0], 'it has the same start');
      assert.ok(answer.text.endsWith('data: [DONE]\n\n'));
    }
    assert.equal(runs(await stage.server.log(id)).length, 1);
  });

  scene('a request without an id has a session of its own', [ai7], async stage => {
    stage.quiet = true;
    const sessions = [];
    for (let n = 0; n < 2; n += 1) {
      const answer = await fetch(stage.server.chat(), { method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' },
        body: JSON.stringify({ messages: [user('hello')], model: 'demo/echo' }) });
      await answer.text();
      sessions.push(answer.headers.get('steerage-session'));
    }
    assert.ok(sessions.every(Boolean) && sessions[0] !== sessions[1], String(sessions));
    assert.equal(runs(await stage.server.log(sessions[1]))[0].text, 'hello');
  });
});
