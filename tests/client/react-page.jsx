// The page of react.mjs: a component that uses a session, in StrictMode, and can be taken away.
import { StrictMode, createElement as h } from 'react';
import { createRoot } from 'react-dom/client';
import { useSession } from '../../web/steerage-react.js';

function Chat({ id, options }) {
  const used = useSession(id, options);
  globalThis.renders += 1;
  globalThis.used = used;
  return h('main', { 'data-status': used.connection.status, 'data-running': String(used.running) },
    used.messages.map((message, at) => h('p', { key: at, className: message.role },
      message.content.map(part => part.type === 'text' ? part.text : '').join(''))));
}

let root;
globalThis.renders = 0;
globalThis.mount = (id, { strict = true, ...options } = {}) => {
  root ??= createRoot(document.getElementById('root'));
  const chat = h(Chat, { id, options });
  root.render(strict ? h(StrictMode, null, chat) : chat);
};
globalThis.unmount = () => { root.unmount(); root = undefined; };
