// Runs every suite, or the tests whose name contains the argument: node main.mjs [ONLY]
import { run } from './common.mjs';
import browser from './browser.mjs';
import commands from './commands.mjs';
import cuts from './cuts.mjs';
import fold from './fold.mjs';
import network from './network.mjs';
import types from './types.mjs';

await run({ types, cuts, network, commands, fold, browser }, process.argv[2]);
