// How to use the open session from elsewhere: programs that run as they stand. A key is never in them, only its place.

/** In a shell, what it does not take as it is. */
const quoted = text => `'${String(text).replaceAll('\'', '\'\\\'\'')}'`;
/** Within quotes of JavaScript or Python. */
const text = value => JSON.stringify(value);

/**
 * `base` is the server's URL with its slash, `keyed` whether it asks for a key, `cursor` the last event that the page has.
 * Each: `{ id, group, name, runs, about, code }`; `runs` says where: shell, page (a module of a page of this origin), python,
 * node, react (a component, for a bundler), terminal.
 */
export function snippets({ base, session, model, cursor, keyed }) {
  const root = `${base}v1`;
  const here = `${root}/sessions/${session}`;
  const auth = keyed ? ' \\\n     -H "authorization: Bearer $STEERAGE_API_KEY"' : '';
  const curl = (url, ...rest) => `curl -sN ${quoted(url)}${auth}${rest.map(line => ` \\\n     ${line}`).join('')}`;
  const json = '-H \'content-type: application/json\'';
  const after = cursor ? `?after=${cursor}` : '';
  // A page has no business with a key: its back end, which has one, mints a token or a ticket for it.
  const token = keyed ? `// Your back end mints it: POST ${here}/tokens {"verbs": ["read", "send", "steer", "cancel"]}\nconst token = await (await fetch('/my-token')).text();\n` : '';
  const bearer = keyed ? ', authorization: `Bearer ${token}`' : '';
  const key = keyed ? 'os.environ["STEERAGE_API_KEY"]' : '"none"';
  const nodeKey = keyed ? 'process.env.STEERAGE_API_KEY' : '"none"';

  return [
    {
      id: 'curl-create', group: 'curl', name: 'Create a session', runs: 'shell',
      about: 'Another session with this model, and its answer as it comes, in one request.',
      code: curl(`${root}/sessions`, json, '-H \'accept: text/event-stream\'', `-d ${quoted(JSON.stringify({ model, input: 'Tell me a story' }))}`),
    }, {
      id: 'curl-stream', group: 'curl', name: 'Stream this one', runs: 'shell',
      about: 'Everything from the first event, then what comes. Ctrl-C ends the stream and nothing else.',
      code: curl(`${here}/events`),
    }, {
      id: 'curl-resume', group: 'curl', name: 'Resume', runs: 'shell',
      about: 'What comes after the last event that this page has.',
      code: curl(`${here}/events`, `-H ${quoted(`last-event-id: ${cursor}`)}`),
    }, {
      id: 'curl-steer', group: 'curl', name: 'Steer', runs: 'shell',
      about: 'While an answer runs, it takes this up at once; where none runs, it begins one.',
      code: curl(`${here}/control`, json, `-d ${quoted(JSON.stringify({ type: 'steer', content: 'shorter, with a whale in it' }))}`),
    }, {
      id: 'curl-cancel', group: 'curl', name: 'Cancel', runs: 'shell',
      about: 'When it is answered, the model call is closed and no token follows.',
      code: curl(`${here}/control`, json, `-d ${quoted(JSON.stringify({ type: 'cancel' }))}`),
    }, {
      id: 'curl-poll', group: 'curl', name: 'Long poll', runs: 'shell',
      about: 'For networks that buffer streams: a page of the same events. Ask again with its last_event_id.',
      code: curl(`${here}/events${after}${after ? '&' : '?'}wait_s=25`, '-H \'accept: application/json\''),
    }, {
      id: 'eventsource', group: 'Browser', name: 'EventSource', runs: 'page',
      about: 'Comes back by itself at the exact event.' + (keyed ? ' It takes no header: a ticket, good once, stands for the token.' : ''),
      code: (keyed ? '// Your back end mints a token with a ticket: {"verbs": ["read"], "ticket": true, "origin": location.origin}\nconst ticket = await (await fetch(\'/my-ticket\')).text();\n' : '')
        + `const events = new EventSource(${keyed ? `\`${here}/events?ticket=\${ticket}\`` : text(`${here}/events`)});
let answer = '';
events.addEventListener('text.delta', ({ data, lastEventId }) => {
  answer += JSON.parse(data).text;
  console.log(lastEventId, answer);
});`,
    }, {
      id: 'websocket', group: 'Browser', name: 'WebSocket', runs: 'page',
      about: 'The same events, and commands and their receipts, on one connection.',
      code: `${token}const socket = new WebSocket(${text(`${here.replace(/^http/, 'ws')}/ws${after}`)}, ['steerage'${keyed ? ', `steerage.bearer.${token}`' : ''}]);
socket.onopen = () => socket.send(JSON.stringify({ type: 'steer', content: 'shorter, please' }));
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data); // An event, a notice or a receipt: \`type\` tells.
  console.log(message.type, message.text ?? message.status ?? '');
};`,
    }, {
      id: 'client', group: 'Browser', name: 'steerage-client.js', runs: 'page',
      about: 'Reconnects, falls back to WebSocket or long poll where a proxy buffers, retries commands: each event exactly once.',
      code: `import { Steerage } from ${text(`${base}steerage-client.js`)};

const steerage = new Steerage(${keyed ? '{\n  // Asked again when it expires. Your back end mints it: POST …/tokens\n  token: async () => (await fetch(\'/my-token\')).text(),\n}' : ''});
const session = steerage.session(${text(session)});
session.on('event', ({ event, id }) => {
  if (event.type === 'text.delta') console.log(id, event.text);
});
session.open();
const receipt = await session.steer('shorter, please');
console.log(receipt.status, receipt.seq);`,
    }, {
      id: 'react', group: 'React', name: 'useSession', runs: 'react',
      about: 'The messages as they stream, and what can be said.',
      code: `// curl -sO ${quoted(`${base}steerage-{react,client,connection,state}.js`)}
import { Steerage } from './steerage-client.js';
import { useSession } from './steerage-react.js';

const steerage = new Steerage({ url: ${text(base)}${keyed ? ', token: async () => (await fetch(\'/my-token\')).text()' : ''} });

export default function Chat() {
  const { messages, running, send, steer, stop } = useSession(${text(session)}, { steerage });
  const say = event => {
    event.preventDefault();
    const text = new FormData(event.target).get('text');
    running ? steer(text) : send(text);
    event.target.reset();
  };
  return (
    <form onSubmit={say}>
      {messages.map(message => (
        <p key={message.message_id}>{message.role}: {message.content.map(part => part.text ?? '').join('')}</p>
      ))}
      <input name="text" aria-label="Message" />
      {running && <button type="button" onClick={() => stop()}>Stop</button>}
    </form>
  );
}`,
    }, {
      id: 'ai-sdk', group: 'React', name: 'AI SDK useChat', runs: 'react',
      about: 'The AI SDK as it is, versions 5 to 7: this session is its chat.',
      code: `import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport } from 'ai';

const api = ${text(`${root}/ai-sdk/chat`)};
${keyed ? 'const headers = async () => ({ authorization: `Bearer ${await (await fetch(\'/my-token\')).text()}` });\n' : ''}
export default function Chat() {
  const chat = useChat({
    id: ${text(session)},
    resume: true, // A reload picks the running answer up.
    transport: new DefaultChatTransport({ api${keyed ? ', headers' : ''} }),
  });
  // A message that is sent while an answer is still picked up would be a second stream into the same chat.
  const busy = ['submitted', 'streaming'].includes(chat.status);
  const say = event => {
    event.preventDefault();
    chat.sendMessage({ text: new FormData(event.target).get('text') });
    event.target.reset();
  };
  const stop = async () => {
    await fetch(\`\${api}/${session}/stop\`, { method: 'POST'${keyed ? ', headers: await headers()' : ''} });
    chat.stop();
  };
  return (
    <form onSubmit={say}>
      {chat.messages.map(message => (
        <p key={message.id}>{message.role}: {message.parts.map(part => part.type === 'text' ? part.text : '').join('')}</p>
      ))}
      <input name="text" aria-label="Message" disabled={busy} />
      {busy && <button type="button" onClick={stop}>Stop</button>}
    </form>
  );
}`,
    }, {
      id: 'responses-python', group: 'OpenAI', name: 'Responses, Python', runs: 'python',
      about: 'The next turn of this session through OpenAI\'s SDK.',
      code: `${keyed ? 'import os\n' : ''}from openai import OpenAI

client = OpenAI(base_url=${text(root)}, api_key=${key})
stream = client.responses.create(conversation=${text(session)}, input="And then?", stream=True)
for event in stream:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)`,
    }, {
      id: 'responses-node', group: 'OpenAI', name: 'Responses, Node', runs: 'node',
      about: 'The same in JavaScript.',
      code: `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${text(root)}, apiKey: ${nodeKey} });
const stream = await client.responses.create({ conversation: ${text(session)}, input: "And then?", stream: true });
for await (const event of stream) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
}`,
    }, {
      id: 'chat-python', group: 'OpenAI', name: 'Chat completions, Python', runs: 'python',
      about: 'A completion is a session of its own, named by the header steerage-session.',
      code: `${keyed ? 'import os\n' : ''}from openai import OpenAI

client = OpenAI(base_url=${text(root)}, api_key=${key})
stream = client.chat.completions.create(
    model=${text(model)}, stream=True, messages=[{"role": "user", "content": "Tell me a story"}])
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)`,
    }, {
      id: 'chat-node', group: 'OpenAI', name: 'Chat completions, Node', runs: 'node',
      about: 'The same in JavaScript.',
      code: `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${text(root)}, apiKey: ${nodeKey} });
const stream = await client.chat.completions.create({
  model: ${text(model)}, stream: true, messages: [{ role: "user", content: "Tell me a story" }],
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");`,
    }, {
      id: 'terminal', group: 'Terminal', name: 'steerage chat', runs: 'terminal',
      about: 'In a terminal: type while it runs to steer, Ctrl-C stops the answer.' + (keyed ? ' It reads STEERAGE_API_KEY.' : ''),
      code: `steerage chat --url ${quoted(base.replace(/\/$/, ''))} --session ${quoted(session)}`,
    },
  ];
}
