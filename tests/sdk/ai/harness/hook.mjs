// React hooks in Node: a DOM that is just enough for react-dom, and a component that does nothing but call the hook.
import { Window } from 'happy-dom';

const window = new Window({ url: 'http://127.0.0.1/' });
// Only what react-dom and the SDK ask for: fetch and the streams stay Node's. Newer Nodes have a navigator.
Object.assign(globalThis, { window, document: window.document });
globalThis.navigator ??= window.navigator;

const { createElement, StrictMode } = await import('react');
const { createRoot } = await import('react-dom/client');

/** Renders `hook` until `unmount()`: `current` is what it has returned last. */
export function render(hook, { strict = false } = {}) {
  const root = createRoot(document.body.appendChild(document.createElement('div')));
  const rendered = { unmount: () => root.unmount() };
  const Component = () => { rendered.current = hook(); return null; };
  root.render(strict ? createElement(StrictMode, null, createElement(Component)) : createElement(Component));
  return rendered;
}

/** The page goes to the background and comes back. */
export function hideAndShow() {
  for (const state of ['hidden', 'visible']) {
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: state });
    document.dispatchEvent(new window.Event('visibilitychange'));
  }
}
