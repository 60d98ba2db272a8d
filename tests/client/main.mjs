// Runs every suite, or the tests whose name contains the argument: node main.mjs [ONLY]
import { run } from './common.mjs';
import commands from './commands.mjs';
import cuts from './cuts.mjs';
import fold from './fold.mjs';
import network from './network.mjs';

await run({ cuts, network, commands, fold }, process.argv[2]);
