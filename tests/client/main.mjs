// Runs every suite, or the tests whose name contains the argument: node main.mjs [ONLY]
import { run } from './common.mjs';
import cuts from './cuts.mjs';

await run({ cuts }, process.argv[2]);
