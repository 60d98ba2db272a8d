import { getToolName, isToolUIPart } from 'ai';
import type { Message } from './history';

type Decide = (decision: { id: string; approved: boolean }) => void;

const states = {
  'input-streaming': 'is being asked for', 'input-available': 'running', 'approval-requested': 'waits for your yes',
  'approval-responded': 'decided', 'output-available': 'done', 'output-error': 'failed', 'output-denied': 'denied',
};
const line = (value: unknown) => JSON.stringify(value, null, 1)?.replace(/\n */g, ' ');

/** What a message is made of: text, thoughts, tools, and what was said in between. Only the newest can be decided. */
export function Parts({ message, decide }: { message: Message; decide?: Decide }) {
  return message.parts.map((part, at) => {
    if (part.type === 'text') return <p key={at} className={part.state}>{part.text}</p>;
    if (part.type === 'data-steering') return <p key={at} className="steer">{part.data.content}</p>;
    if (part.type === 'reasoning') return <details key={at}>
      <summary>{part.state === 'streaming' ? 'Thinking …' : 'Thoughts'}</summary>{part.text}</details>;
    if (!isToolUIPart(part)) return null;
    const asked = part.state === 'approval-requested';
    return <section key={at} className={asked && !decide ? 'passed-over' : part.state}>
      <h2>{getToolName(part)} <small>{asked && !decide ? 'passed over' : states[part.state]}</small></h2>
      <pre>{line(part.input)}</pre>
      {part.state === 'output-available' && <pre className="output">{line(part.output)}</pre>}
      {part.state === 'output-error' && <pre className="output">{part.errorText}</pre>}
      {asked && decide && <menu>
        <button className="send" onClick={() => decide({ id: part.approval.id, approved: true })}>Approve</button>
        <button onClick={() => decide({ id: part.approval.id, approved: false })}>Deny</button>
      </menu>}
    </section>;
  });
}
