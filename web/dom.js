// Elements by hand: foreign text only ever becomes a text node.

export const $ = id => document.getElementById(id);

/** An element: `h('button.main', {type: 'button', onclick}, 'Send')`. Properties that are functions or known are set as such. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split('.');
  const node = document.createElement(tag || 'div');
  if (classes.length) node.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === 'function' || key === 'value' || key === 'checked') node[key] = value;
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.filter(child => child !== undefined && child !== null));
  return node;
}

/** A value as JSON: on one line where it is short. */
export function pretty(value) {
  const line = JSON.stringify(value);
  return line === undefined ? '' : line.length < 48 ? line : JSON.stringify(value, null, 2);
}

/** Seconds as a person says them. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ''}`.trim();
  return s < 86_400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
}

/** Copies a text; the button says so for a moment. */
export async function copy(text, button) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Select and copy';
  }
  setTimeout(() => { button.textContent = said; }, 1500);
}

/** A dialog that is made when it is needed, and gone when it is closed. Focus goes back to where it was. */
export function dialog(title, ...children) {
  const heading = h('h2', { id: `dialog-${Math.random().toString(36).slice(2)}` }, title);
  const close = h('button.round', { type: 'button', 'aria-label': 'Close', onclick: () => node.close() }, '×');
  const node = h('dialog', { 'aria-labelledby': heading.id }, h('div.title', {}, heading, close), ...children);
  node.addEventListener('close', () => node.remove());
  document.body.append(node);
  node.showModal();
  return node;
}
