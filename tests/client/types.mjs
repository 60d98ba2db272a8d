// The types are those of the modules, under `tsc --strict`, and what is wrong does not compile.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as client from '../../web/steerage-client.js';
import * as state from '../../web/steerage-state.js';

const here = name => fileURLToPath(new URL(name, import.meta.url));
const web = name => here(`../../web/${name}`);

export default {
  'a typed program compiles, and its mistakes do not'() {
    const { status, stdout, stderr } = spawnSync(process.execPath, [here('node_modules/typescript/bin/tsc'), '-p', here('tsconfig.json')],
      { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    // Each of them is an `@ts-expect-error`, which is an error itself where nothing is wrong.
    return `${readFileSync(here('usage.ts'), 'utf8').match(/@ts-expect-error/g).length} mistakes are noticed`;
  },

  'every name that is declared is there, and the other way round'() {
    const declared = (name, text = readFileSync(web(name), 'utf8')) =>
      [...text.matchAll(/^export (?:function|class|const) (\w+)/gm)].map(match => match[1]).sort();
    assert.deepEqual(declared('steerage-client.d.ts'), Object.keys(client).sort());
    assert.deepEqual(declared('steerage-state.d.ts'), Object.keys(state).sort());
    assert.deepEqual(declared('steerage-react.d.ts'), declared('steerage-react.js'));
    const body = readFileSync(web('steerage-client.d.ts'), 'utf8').split('export class Session {')[1];
    const methods = new Set([...body.matchAll(/^ {2}(\w+)\(/gm)].map(match => match[1]));
    const real = Object.getOwnPropertyNames(client.Session.prototype).filter(name => !['constructor', 'connection'].includes(name));
    assert.deepEqual([...methods].sort(), real.sort());
  },
};
