// A program that uses all of the client, for types.mjs. It is compiled and not run.
import { Session, Steerage, SteerageError } from '../../web/steerage-client.js';
import type { EventRecord } from '../../web/steerage-client.js';
import { fold, initial } from '../../web/steerage-state.js';
import type { KnownEvent, Message, State } from '../../web/steerage-state.js';
import { useSession } from '../../web/steerage-react.js';

export async function program(token: string): Promise<string> {
  const steerage = new Steerage({ url: 'http://127.0.0.1:8787', token: async ({ reason }) => reason === 'first' ? token : token });
  new Steerage({ WebSocket, fetch, limits: { silenceMs: 5_000 } });
  const models: string[] = (await steerage.models()).map(model => model.id);
  const { next_cursor } = await steerage.sessions({ state: 'running', limit: 10 });
  const { session_id } = await steerage.create({ model: models[0] ?? 'demo/echo', input: 'Hello', metadata: { n: next_cursor } });
  const session: Session = steerage.session(session_id, { transport: 'auto', from: 'snapshot' });
  let state: State = initial();
  const off = session.on('event', ({ event, live, receivedAt }) => {
    state = fold(state, event);
    if (event.type === 'text.delta') console.log(event.text, live, receivedAt.toFixed());
    if (event.type === 'approval.requested') void session.approve(event.approval_id, { arguments: { city: 'Oslo' }, scope: 'session' });
    if (event.type === 'snapshot') console.log(event.snapshot.messages.length);
    // @ts-expect-error A notice is no event.
    if (event.type === 'caught_up') console.log(event);
    // @ts-expect-error A delta has no time.
    if (event.type === 'text.delta') console.log(event.at);
  });
  session.on('connection', ({ status, retryAt, fellBack }) => console.log(status, (retryAt ?? 0) - Date.now(), fellBack[0]?.reason));
  session.on('notice', notice => console.log(notice.type));
  session.on('command', ({ command, ms, receipt }) => console.log(command.command_id, ms, receipt?.seq));
  // @ts-expect-error There is no such kind.
  session.on('message', () => {});
  // @ts-expect-error A cursor is moved by events alone.
  session.cursor = 'k7q2mx.42';
  session.use('poll');
  // @ts-expect-error There is no such transport.
  session.use('pigeon');
  try {
    const receipt = await session.send('And then?', { if_running: 'queue', signal: AbortSignal.timeout(1_000) });
    await session.withdraw(receipt.command_id);
    await session.toolResult('call_1', { output: null });
    await session.toolResult('call_1', { error: 'no' });
    // @ts-expect-error A result has an output or an error.
    await session.toolResult('call_1', {});
    await session.cancel({ mode: 'rollback' });
    // @ts-expect-error There is no such mode.
    await session.cancel({ mode: 'undo' });
  } catch (error) {
    if (error instanceof SteerageError && error.status === 409) console.log(error.code, error.problem?.receipt, error.passes);
  }
  for await (const record of session.events()) {
    const it: EventRecord = record;
    if (it.type === 'run.completed') break;
  }
  const { token: short } = await session.mint({ verbs: ['read', 'steer'], ttl_s: 60 });
  const page = await session.page({ after: session.cursor, wait_s: 5 });
  off();
  session.close();
  await session.delete();
  return short + page.last_event_id;
}

export function words(message: Message): string {
  return message.content.map(part => part.type === 'tool_call' ? part.name : part.text).join('');
}

export function count(event: KnownEvent): number {
  return event.type === 'step.ended' ? event.usage?.output_tokens ?? 0 : 0;
}

export function Chat({ id }: { id: string | null }) {
  const { messages, running, connection, stop, send } = useSession(id, { url: '/ai/', token: 'st_x', from: 'snapshot' });
  return [messages.map(words), running, connection.status, () => stop(), () => send('x')];
}
