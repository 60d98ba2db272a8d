import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from 'ai';
import { type FormEvent, useState } from 'react';
import type { Message } from './history';
import { useOtherTabs, useReconnect } from './live';
import { Parts } from './Parts';

const api = '/v1/ai-sdk/chat';
const model = new URLSearchParams(location.search).get('model') ?? undefined; // The server's default otherwise.
const transport = new DefaultChatTransport<Message>({ api, body: { model } });
const ideas = ['Tell me a story', 'What is the weather in Lisbon?'];
const post = (url: string, body: object) =>
  fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
    .then(answer => answer.ok, () => false);

export function Chat({ id, history }: { id: string; history: Message[] }) {
  const chat = useChat<Message>({
    id, messages: history, transport,
    resume: true, // A reload and a second tab join the answer that is running.
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const { messages, status, error, sendMessage, regenerate } = chat;
  const [text, setText] = useState('');
  const lost = useReconnect(chat);
  const busy = lost || status === 'submitted' || status === 'streaming';
  useOtherTabs(chat);

  // The server ends the model call, and the stream with it. Where it cannot be reached, at least this page stops.
  const stop = async () => { if (!await post(`${api}/${id}/stop`, {})) chat.stop(); };
  // What is said while an answer streams steers it; if the answer has just ended, it is the next message.
  const steer = (content: string) => post(`/v1/sessions/${id}/control`, { type: 'steer', content, if_idle: 'reject' });
  const say = async (event: FormEvent) => {
    event.preventDefault();
    setText('');
    if (text.trim() && !(busy && await steer(text))) sendMessage({ text });
  };

  return <>
    <header><h1>Chat</h1><a href={location.pathname + location.search}>New chat</a></header>
    <main>
      <div role="log">
        {!messages.length && <div className="empty">
          <p>Ask for something. While the answer streams: steer it, stop it, reload, open a second tab.</p>
          {ideas.map(text => <button key={text} onClick={() => sendMessage({ text })}>{text}</button>)}
        </div>}
        {messages.map(message => <article key={message.id} className={message.role}>
          <Parts message={message} decide={message === messages.at(-1) ? chat.addToolApprovalResponse : undefined} />
        </article>)}
        {status === 'submitted' && <i className="wait" />}
        {!busy && !error && messages.at(-1)?.role === 'assistant' &&
          <button className="again" onClick={() => regenerate()}>Regenerate</button>}
      </div>
    </main>
    <footer>
      {lost ? <p role="status">The connection was lost. Coming back …</p>
        : error && <p role="alert">{error.message} <button onClick={() => regenerate()}>Try again</button></p>}
      <form onSubmit={say}>
        <input value={text} onChange={event => setText(event.target.value)} aria-label="Message" autoFocus
          placeholder={busy ? 'Steer the answer' : 'Say something'} />
        {busy && <button type="button" className="stop" onClick={stop}>Stop</button>}
        <button className="send">{busy ? 'Steer' : 'Send'}</button>
      </form>
    </footer>
  </>;
}
