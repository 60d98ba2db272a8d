// What a tab, or a browser, remembers. Where storage is blocked it is remembered as long as the page.

function keeps(kind) {
  const own = new Map();
  const real = () => { try { return globalThis[kind]; } catch { return undefined; } };
  const tries = (act, otherwise) => { try { return act(real()); } catch { return otherwise(); } };
  return {
    get: name => tries(store => store.getItem(name), () => own.get(name) ?? null),
    set: (name, value) => tries(store => store.setItem(name, value), () => own.set(name, value)),
    remove: name => tries(store => store.removeItem(name), () => own.delete(name)),
  };
}

export const tab = keeps('sessionStorage');
export const browser = keeps('localStorage');
