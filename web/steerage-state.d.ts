// Types of steerage-state.js: the events of a session, and what they come to. As in openapi.yaml, `Event` and `Snapshot`.

export type SessionState = 'idle' | 'running' | 'waiting';
export type FinishReason =
  'stop' | 'length' | 'tool_calls' | 'content_filter' | 'steered' | 'cancelled' | 'error' | 'other';
export type Trigger = 'send' | 'steer' | 'regenerate' | 'tool_result';
export type CommandKind =
  'cancel' | 'steer' | 'approve' | 'deny' | 'tool_result' | 'send' | 'regenerate' | 'withdraw';
export type SteerWhen = 'now' | 'next_step' | 'next_run';
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Arguments = { [name: string]: Json };

/** Tokens as the upstream counted them; absent where it did not say. */
export interface Usage {
  input_tokens?: number;
  output_tokens?: number;
  reasoning_tokens?: number;
  cached_tokens?: number;
}

export interface TextPart { type: 'text'; block?: number; text: string }
export interface ReasoningPart { type: 'reasoning'; block?: number; text: string }
export interface ToolCallPart {
  type: 'tool_call';
  block?: number;
  call_id: string;
  name: string;
  state: 'streaming' | 'ready' | 'awaiting_approval' | 'running' | 'completed' | 'failed';
  /** The model's, once they are whole. */
  arguments?: Arguments;
  /** What a person put in their place. */
  edited_arguments?: Arguments;
  output?: Json;
  error?: { code: string; message: string };
}
export type Part = TextPart | ReasoningPart | ToolCallPart;

export interface Message {
  message_id: string;
  role: 'system' | 'user' | 'assistant';
  run_id?: string;
  status: 'complete' | 'streaming' | 'steered' | 'cancelled' | 'failed';
  /** It has left the model's context. */
  rolled_back?: true;
  content: Part[];
}

export interface Tool { name: string; executor: 'client' | 'builtin' }

export interface Run {
  run_id: string;
  trigger: Trigger;
  started_at: string;
  step: number;
  attempt: number;
  recoveries: number;
  /** From this message on all belong to it, its input among them; `null` while there is none. */
  first_message_id: string | null;
  /** What the answer that is being written says so far. */
  text: string;
  usage: Usage | null;
}

export interface EndedRun {
  run_id: string;
  outcome: 'completed' | 'cancelled' | 'failed';
  finish_reason?: FinishReason;
  code?: string;
  message?: string;
}

export interface Approval {
  approval_id: string;
  call_id: string;
  name: string;
  arguments: Arguments;
  digest: string;
  expires_at: string;
}

export interface Queued { command_id: string; kind: CommandKind; when: SteerWhen; content: string; by: string }

export interface Receipt {
  command_id: string;
  kind: CommandKind;
  status: 'accepted' | 'applied' | 'rejected' | 'withdrawn';
  seq: number;
  reason?: string;
  message?: string;
  /** The command had been given before; nothing happened again. */
  replayed?: true;
}

/** A session, as `GET /v1/sessions/{id}` answers it. Never changed in place. */
export interface State {
  session_id: string;
  state: SessionState;
  model: string;
  created_at: string;
  updated_at: string;
  metadata: { [name: string]: Json };
  durability: 'memory' | 'os' | 'fsync';
  retention_s: number;
  last_event_id: string;
  /** Those that the model may call. */
  tools: Tool[];
  messages: Message[];
  run: Run | null;
  last_run: EndedRun | null;
  approvals: Approval[];
  queue: Queued[];
  receipts: Receipt[];
  usage: Usage;
}

interface Stored<T extends string> { type: T; id: string; seq: number }
interface Dated<T extends string> extends Stored<T> { at: string }
interface OfCommand<T extends string> extends Dated<T> { command_id: string; kind: CommandKind }
interface Given<T extends string> extends OfCommand<T> { by: string; digest: string }
interface OfRun<T extends string> extends Dated<T> { run_id: string; usage: Usage | null }

/** Every event that is known here. */
export type KnownEvent =
  | Dated<'session.created'> & {
    session_id: string; model: string; durability: State['durability']; epoch: string; retention_s: number;
    system?: string; tools?: { name: string; executor?: 'client' | 'builtin'; [name: string]: Json | undefined }[];
    params?: Json; metadata?: { [name: string]: Json }; on_disconnect?: { cancel_after_s: number };
  }
  | Dated<'session.closed'> & { reason: 'deleted' | 'expired' }
  | Dated<'session.near_limit'> & { limit: 'events' | 'bytes'; used: number; max: number }
  | Dated<'history.rewound'> & { message_ids: string[]; command_id: string }
  | Dated<'history.diverged'> & { ignored: string[]; absent: number; command_id: string }
  | Dated<'input.added'> & {
    message_id: string; role: Message['role']; content: string; command_id?: string; reasoning?: string;
    calls?: { call_id: string; name: string; arguments: Arguments; output?: Json; error?: string }[];
  }
  | Dated<'run.started'> & {
    run_id: string; model: string; trigger: Trigger; provider: string; demo?: true; metadata?: { [name: string]: Json };
  }
  | Dated<'run.recovered'> & { run_id: string; attempt: number; mode: 'prefill' | 'continue' | 'restart_step' }
  | Dated<'step.started'> & { run_id: string; step: number; attempt: number }
  | OfRun<'step.ended'> & { step: number; attempt: number; finish_reason: FinishReason }
  | Dated<'text.started'> & { block: number; message_id: string }
  | Stored<'text.delta'> & { block: number; text: string; lossy?: true }
  | Dated<'text.ended'> & { block: number }
  | Dated<'reasoning.started'> & { block: number; message_id: string }
  | Stored<'reasoning.delta'> & { block: number; text: string; lossy?: true }
  | Dated<'reasoning.ended'> & { block: number }
  | Dated<'tool_call.started'> & { block: number; message_id: string; call_id: string; name: string }
  | Stored<'tool_call.delta'> & { block: number; arguments: string }
  | Dated<'tool_call.ready'> & { block: number; call_id: string; name: string; arguments: Arguments }
  | Dated<'approval.requested'> & Approval & { allowed?: true }
  | Dated<'approval.resolved'> & {
    approval_id: string; outcome: 'approved' | 'denied' | 'timed_out' | 'cancelled' | 'superseded'; by: string;
    edited_arguments?: Arguments; digest?: string; scope?: 'once' | 'session'; message?: string;
  }
  | Dated<'tool.started'> & { call_id: string; attempt: number }
  | Dated<'tool.completed'> & { call_id: string; output: Json }
  | Dated<'tool.failed'> & { call_id: string; code: string; message: string }
  | Given<'command.accepted'> & { content: string; when: SteerWhen }
  | Given<'command.applied'> & { run_id?: string; step?: number }
  | Given<'command.rejected'> & { reason: string; message?: string; content?: string }
  | OfCommand<'command.withdrawn'> & { reason: 'withdrawn' | 'run_cancelled' | 'run_failed'; content: string }
  | OfRun<'run.completed'> & { finish_reason: FinishReason; warning?: string }
  | OfRun<'run.cancelled'> & { mode: 'stop' | 'rollback'; reason: string; command_id?: string }
  | OfRun<'run.failed'> & { code: string; message: string; partial: boolean };

/** Not stored: the folded session, first of all or after a `reset`. */
export interface SnapshotEvent { type: 'snapshot'; snapshot: State; id?: undefined; seq?: undefined }

/** New types may come with a newer server: skip what you do not know. */
export type SessionEvent = KnownEvent | SnapshotEvent;

/** The state before the first event. */
export function initial(): State;
/** Takes one event in: a new state, which shares with the old one whatever did not change. */
export function fold(state: State, event: SessionEvent): State;
