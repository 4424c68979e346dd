/** Writes the generated documents. `--check` writes nothing and exits 1 with the list of those that differ. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { generatedDocuments } from '../config/generate/documents.ts';

const { values } = parseArgs({
  options: { check: { type: 'boolean', default: false }, root: { type: 'string' } },
});
const root = values.root ?? dirname(import.meta.dirname);
const stale = generatedDocuments().filter(({ path, text }) => {
  const file = join(root, path);
  return !existsSync(file) || readFileSync(file, 'utf8') !== text;
});
if (!values.check)
  for (const { path, text } of stale) {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
for (const { path } of stale)
  console.log(values.check ? `${path} is not what the source says; run npm run docs` : `wrote ${path}`);
if (values.check && stale.length > 0) process.exit(1);
