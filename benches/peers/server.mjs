// What a team builds today for chats that survive a reload: Node, the AI SDK's `streamText`, `resumable-stream` and
// Redis, put together as the page "Chatbot Resume Streams" of the AI SDK's documentation does. Where that page leaves a
// choice, the cheaper one is taken: one pair of Redis connections for all chats and not one for each request, and chats
// in a `Map` and not in a database.
//
// It serves `POST /v1/ai-sdk/chat` and `GET /v1/ai-sdk/chat/{id}/stream` until its standard input ends. Redis is its
// child, so that who measures the process and its children measures the whole stack.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  UI_MESSAGE_STREAM_HEADERS,
  convertToModelMessages,
  createUIMessageStreamResponse,
  generateId,
  streamText,
  toUIMessageStream,
} from 'ai';
import { createResumableStreamContext } from 'resumable-stream';

const { PORT, UPSTREAM, REDIS_SERVER, REDIS_PORT, REDIS_DIR } = process.env;

const CHAT = '/v1/ai-sdk/chat';

const provider = createOpenAICompatible({ name: 'mock', baseURL: UPSTREAM });

// Without a Redis nothing can be resumed: this tells what the AI SDK costs alone.
const streams = REDIS_SERVER === undefined ? null : await startRedis();

const chats = new Map();

const saveChat = (chat) => chats.set(chat.id, { ...chats.get(chat.id), ...chat });

async function startRedis() {
  const options = ['--port', REDIS_PORT, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', REDIS_DIR];
  const redis = spawn(REDIS_SERVER, options, { stdio: ['ignore', 'ignore', 'inherit'] });
  redis.on('exit', (code) => process.exit(code || 1));
  process.on('exit', () => redis.kill('SIGKILL'));
  for (let tries = 0; !(await listens(REDIS_PORT)); tries += 1) {
    if (tries === 500) throw new Error('Redis does not listen');
    await sleep(10);
  }
  process.env.REDIS_URL = `redis://127.0.0.1:${REDIS_PORT}`;
  return createResumableStreamContext({ waitUntil: null });
}

async function listens(port) {
  const socket = connect(port, '127.0.0.1');
  const connected = await once(socket, 'connect').then(() => true, () => false);
  socket.destroy();
  return connected;
}

async function post(request) {
  // `messages`, as the client sends them unless it is told otherwise.
  const { id, messages, model, params } = JSON.parse(await text(request));
  saveChat({ id, messages, activeStreamId: null });
  const result = streamText({
    model: provider(model.slice(model.indexOf('/') + 1)),
    maxOutputTokens: params?.max_tokens,
    messages: await convertToModelMessages(messages),
  });
  return createUIMessageStreamResponse({
    stream: toUIMessageStream({
      stream: result.stream,
      originalMessages: messages,
      generateMessageId: generateId,
      onEnd: ({ messages }) => saveChat({ id, messages, activeStreamId: null }),
    }),
    consumeSseStream: streams && (async ({ stream }) => {
      const streamId = generateId();
      await streams.createNewResumableStream(streamId, () => stream);
      saveChat({ id, activeStreamId: streamId });
    }),
  });
}

async function resume(id) {
  const active = chats.get(id)?.activeStreamId;
  const stream = active && (await streams.resumeExistingStream(active));
  // `resumable-stream` hands out text, a body is made of bytes.
  const bytes = stream?.pipeThrough(new TextEncoderStream());
  return bytes ? new Response(bytes, { headers: UI_MESSAGE_STREAM_HEADERS }) : new Response(null, { status: 204 });
}

async function answer(request) {
  const id = new RegExp(`^${CHAT}/([^/]+)/stream$`).exec(request.url)?.[1];
  if (request.method === 'POST' && request.url === CHAT) return post(request);
  if (request.method === 'GET' && id) return resume(id);
  return new Response(null, { status: 404 });
}

createServer(async (request, response) => {
  try {
    const { status, headers, body } = await answer(request);
    response.writeHead(status, Object.fromEntries(headers));
    // This costs no more than the AI SDK's own `pipeUIMessageStreamToResponse`.
    if (body) Readable.fromWeb(body).pipe(response);
    else response.end();
  } catch (error) {
    console.error(error);
    response.destroy();
  }
}).listen(Number(PORT), '127.0.0.1');

process.stdin.on('end', () => process.exit()).resume();
