import type { UIMessage } from 'ai';

export type Message = UIMessage<unknown, { steering: { message_id: string; content: string } }>;
type Part = Message['parts'][number];

// The SDK has no call that reads what was said earlier; the snapshot of the session has it. One run is one message
// of the SDK, under the run's id, so that a replay lands on what is already there.
export async function history(id: string): Promise<Message[]> {
  const answer = await fetch(`/v1/sessions/${id}`);
  if (answer.status === 404) return []; // Nothing was said yet.
  if (!answer.ok) throw new Error(await answer.text());
  const messages: Message[] = [];
  for (const said of (await answer.json()).messages) {
    if (said.rolled_back || said.role === 'system') continue;
    const id = said.run_id ?? said.message_id;
    if (messages.at(-1)?.id !== id) messages.push({ id, role: said.run_id ? 'assistant' : said.role, parts: [] });
    messages.at(-1)!.parts.push(...said.content.map((part: any) => shown(said, part)));
  }
  return messages;
}

function shown({ message_id, role, run_id }: any, part: any): Part {
  if (part.type === 'tool_call') return call(part);
  if (role !== 'user' || !run_id) return { type: part.type, text: part.text };
  return { type: 'data-steering', id: message_id, data: { message_id, content: part.text } };
}

function call({ call_id, name, arguments: asked, edited_arguments, state, output, error }: any): Part {
  const tool = { type: `tool-${name}` as const, toolCallId: call_id, input: edited_arguments ?? asked };
  if (state === 'completed') return { ...tool, state: 'output-available', output };
  const approval = { id: '', approved: false as const };
  if (error?.code === 'denied_by_user') return { ...tool, state: 'output-denied', approval };
  if (error) return { ...tool, state: 'output-error', errorText: error.message };
  return { ...tool, state: state === 'streaming' ? 'input-streaming' : 'input-available' };
}
