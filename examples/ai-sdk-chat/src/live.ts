import type { UseChatHelpers } from '@ai-sdk/react';
import { APICallError } from 'ai';
import { useEffect } from 'react';
import { history, type Message } from './history';

type Chat = UseChatHelpers<Message>;

/** The SDK comes back from a lost connection when the tab is looked at again. A tab that is in sight does here, too. */
export function useReconnect({ messages, error, resumeStream }: Chat): boolean {
  const broken = error instanceof TypeError || (APICallError.isInstance(error) && error.isRetryable);
  // A message that was never sent has no answer to come back to.
  const lost = broken && messages.at(-1)?.role === 'assistant';
  useEffect(() => {
    if (!lost) return;
    const timer = setTimeout(resumeStream, 1_000);
    return () => clearTimeout(timer);
  }, [lost, error, resumeStream]);
  return lost;
}

/** The SDK hears nothing of what is said or decided in another tab. The log tells it, and an idle tab joins in. */
export function useOtherTabs({ id, messages, status, setMessages, resumeStream }: Chat) {
  const idle = status === 'ready' && messages.length > 0;
  useEffect(() => {
    if (!idle) return;
    let timer: ReturnType<typeof setTimeout>;
    const join = async () => {
      setMessages(await history(id));
      resumeStream();
    };
    // What this tab did itself ends its idleness before that.
    const soon = () => { timer = setTimeout(join, 100); };
    const log = new EventSource(`/v1/sessions/${id}/events?from=now`);
    for (const type of ['run.started', 'approval.resolved']) log.addEventListener(type, soon);
    return () => { log.close(); clearTimeout(timer); };
  }, [id, idle, setMessages, resumeStream]);
}
