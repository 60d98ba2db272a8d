// Types of steerage-client.js.

import type { Arguments, Json, Receipt, SessionEvent, SessionState, State } from './steerage-state.js';

export type Transport = 'sse' | 'websocket' | 'poll';
export type Verb = 'read' | 'send' | 'steer' | 'cancel' | 'approve';

/** Milliseconds, but for `waitS` and `queueMax`. */
export interface Limits {
  /** Until the first byte of a stream, and from there to its first message; 4000. */
  openingMs: number;
  /** Silence after which a connection is left; 25000. */
  silenceMs: number;
  /** Shortest back-off; 250. */
  retryMinMs: number;
  /** Longest wait that the server did not ask for; 30000. */
  retryMaxMs: number;
  /** A connection that lived so long makes the next failure the first; 5000. */
  steadyMs: number;
  /** One request; 10000. */
  requestMs: number;
  /** A command with all its tries; 30000. */
  commandMs: number;
  /** Seconds of a long poll; 25, at most 30. */
  waitS: number;
  /** Records that wait for a slow `for await`; 1000. */
  queueMax: number;
}

export interface SteerageOptions {
  /** Base of the server; where the module came from by default. */
  url?: string | URL;
  /** A key or a token, or who gives one. It is asked again when that is about to end, or has. */
  token?: string | ((why: { reason: 'first' | 'expiring' | 'expired' | 'unauthorized' }) => string | Promise<string>);
  fetch?: typeof globalThis.fetch;
  /** A constructor as browsers have it; without one `auto` leaves sockets out. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  limits?: Partial<Limits>;
}

/** What is used of a socket. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  close(code?: number, reason?: string): void;
}

export interface Problem { type: string; title: string; status: number; code: string; detail: string; receipt?: Receipt }

export class SteerageError extends Error {
  /** Of HTTP; 0 where there was no answer. */
  status: number;
  /** The server's stable code; `unreachable`, `timeout`, `no_token`, or `http_STATUS` where the answer was not the server's. */
  code: string;
  problem?: Problem;
  retryAfterMs?: number;
  /** Whether the same may succeed later. */
  readonly passes: boolean;
}

export interface Model { id: string; object: 'model'; created: number; owned_by: string }
export interface Summary {
  session_id: string; state: SessionState; model: string; created_at: string; updated_at: string;
  metadata: { [name: string]: Json };
}
export interface Tool {
  name: string; description?: string; parameters?: object; executor?: 'client' | 'builtin';
  approval?: 'always' | 'never' | null; approval_timeout_s?: number | null; timeout_s?: number | null;
  idempotent?: boolean; ends_run?: boolean;
}
export interface InputMessage {
  role: 'system' | 'user' | 'assistant'; content?: string; reasoning?: string | null;
  calls?: { call_id: string; name: string; arguments: Arguments; output?: Json; error?: string | null }[];
}
export interface CreateSession {
  /** Minted here if missing, so that a try that seems lost can be repeated. */
  id?: string;
  model?: string; system?: string; tools?: Tool[]; input?: string | InputMessage[];
  params?: { [name: string]: Json }; metadata?: { [name: string]: Json }; retention_s?: number;
  on_disconnect?: { cancel_after_s: number };
  signal?: AbortSignal;
}

export class Steerage {
  constructor(options?: SteerageOptions);
  readonly url: URL;
  models(): Promise<Model[]>;
  sessions(query?: { state?: SessionState; cursor?: number; limit?: number }):
    Promise<{ sessions: Summary[]; next_cursor: number | null }>;
  create(session?: CreateSession): Promise<State>;
  /** Any other request, with the credential; a refusal is thrown. The path is below `url`. */
  json(path: string, options?: { method?: string; body?: unknown; signal?: AbortSignal; timeoutMs?: number }): Promise<any>;
  /** Opens nothing yet. */
  session(id: string, options?: SessionOptions): Session;
}

export interface SessionOptions {
  transport?: 'auto' | Transport;
  /** Where to begin without a cursor; `start`. */
  from?: 'start' | 'snapshot' | 'now';
  /** A cursor to begin after. */
  after?: string;
}

/** Replaced at each change, never changed in place. */
export interface ConnectionState {
  readonly status: 'idle' | 'connecting' | 'live' | 'waiting' | 'closed';
  readonly transport?: Transport;
  readonly requested: 'auto' | Transport;
  /** The cursor that this connection began after; empty from the start or a snapshot. */
  readonly resumedFrom: string;
  /** Connections so far. */
  readonly opened: number;
  /** When the next one is tried, in milliseconds since 1970. */
  readonly retryAt?: number;
  /** Why it waits or is closed. */
  readonly reason?: string;
  readonly fellBack: readonly { transport: Transport; reason: 'buffered' | 'failed' }[];
}

export interface EventRecord {
  event: SessionEvent;
  type: string;
  id: string;
  seq: number;
  /** The JSON text as it came. */
  raw: string;
  /** Of the JSON text, in UTF-8. */
  bytes: number;
  /** Milliseconds since 1970, with fractions. */
  receivedAt: number;
  transport: Transport;
  /** Number of the connection, from 1. */
  connection: number;
  /** Whether it happened after the connection had caught up. */
  live: boolean;
}

export interface Notice { type: string; [name: string]: Json | undefined }

export interface CommandBody { type: string; command_id?: string; [name: string]: unknown }
export interface CommandRecord {
  command: CommandBody & { command_id: string };
  sentAt: number;
  /** Once it is answered. */
  ms?: number;
  receipt?: Receipt;
  error?: unknown;
}

export interface CommandOptions { command_id?: string; signal?: AbortSignal }

export interface EventPage {
  events: SessionEvent[]; last_event_id: string | null; caught_up: boolean;
  reset?: Notice; snapshot?: State; store_failed?: string;
}

export interface Token {
  token_id: string; token: string; session_id: string; verbs: Verb[]; name: string; expires_at: string;
  ticket?: string; ticket_expires_at?: string;
}

export class Session {
  private constructor();
  readonly id: string;
  /** The last event id that was delivered. */
  readonly cursor: string;
  readonly connection: ConnectionState;

  on(type: 'event', listener: (record: EventRecord) => void): () => void;
  on(type: 'notice', listener: (notice: Notice) => void): () => void;
  on(type: 'connection', listener: (connection: ConnectionState) => void): () => void;
  on(type: 'command', listener: (record: CommandRecord) => void): () => void;

  open(): void;
  close(): void;
  use(transport: 'auto' | Transport): void;
  events(options?: { signal?: AbortSignal }): AsyncGenerator<EventRecord, void, void>;

  send(content: string, options?: CommandOptions & {
    if_running?: 'queue' | 'steer' | 'cancel' | 'reject'; message_id?: string; replaces?: string;
    history?: { message_id: string; role: string; content?: string }[]; metadata?: { [name: string]: Json };
  }): Promise<Receipt>;
  steer(content: string, options?: CommandOptions & {
    when?: 'now' | 'next_step' | 'next_run'; if_idle?: 'start' | 'reject';
  }): Promise<Receipt>;
  cancel(options?: CommandOptions & { mode?: 'stop' | 'rollback'; run_id?: string; reason?: string }): Promise<Receipt>;
  approve(approvalId: string, options?: CommandOptions & { arguments?: Arguments; scope?: 'once' | 'session' }):
    Promise<Receipt>;
  deny(approvalId: string, options?: CommandOptions & { message?: string }): Promise<Receipt>;
  toolResult(callId: string, result: CommandOptions & { metadata?: { [name: string]: Json } } &
    ({ output: Json } | { error: string })): Promise<Receipt>;
  withdraw(commandId: string, options?: CommandOptions): Promise<Receipt>;
  regenerate(options?: CommandOptions & {
    message_id?: string; history?: { message_id: string; role: string; content?: string }[];
    metadata?: { [name: string]: Json };
  }): Promise<Receipt>;
  command(body: CommandBody & { signal?: AbortSignal }): Promise<Receipt>;

  snapshot(options?: { signal?: AbortSignal }): Promise<State>;
  page(query?: {
    after?: string; from?: 'start' | 'snapshot' | 'now'; wait_s?: number; limit?: number; signal?: AbortSignal;
  }): Promise<EventPage>;
  delete(options?: { signal?: AbortSignal }): Promise<void>;
  mint(token: {
    verbs: Verb[]; ttl_s?: number; name?: string; cookie?: boolean; ticket?: boolean; origin?: string; signal?: AbortSignal;
  }): Promise<Token>;
}
