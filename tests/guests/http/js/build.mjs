// SPDX-License-Identifier: Apache-2.0
// node build.mjs SOURCE WIT WORLD OUT
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [source, witPath, worldName, out] = process.argv.slice(2);
const { component } = await componentize(await readFile(source, 'utf8'),
    { witPath, worldName, disableFeatures: ['fetch-event'] });
await writeFile(out, component);
