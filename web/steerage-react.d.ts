// Types of steerage-react.js.

import type { ConnectionState, Session, SessionOptions, Steerage, SteerageOptions } from './steerage-client.js';
import type { Message, State } from './steerage-state.js';

export interface UseSessionOptions extends SteerageOptions, Pick<SessionOptions, 'transport' | 'from'> {
  /** The server, instead of what describes it. Keep it the same from one render to the next. */
  steerage?: Steerage;
}

export interface UsedSession {
  state: State;
  /** Those of the model's context: without what was rolled back. */
  messages: Message[];
  running: boolean;
  connection: ConnectionState;
  send: Session['send'];
  steer: Session['steer'];
  stop: Session['cancel'];
  approve: Session['approve'];
  deny: Session['deny'];
  toolResult: Session['toolResult'];
  withdraw: Session['withdraw'];
  regenerate: Session['regenerate'];
  session: Session | null;
}

/** Follows a session while the component is mounted. Without an id there is none yet. */
export function useSession(id: string | null | undefined, options?: UseSessionOptions): UsedSession;
