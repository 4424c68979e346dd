/** Whatever reads bytes or text from outside is fuzzed, and stands in one list with its test. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { decoders } from '../support/decoders.ts';
import { fuzzRuns } from '../support/fuzz.ts';

const root = dirname(dirname(import.meta.dirname));

test('every decoder of the list is fuzzed by the test that it names', () => {
  const wrong: string[] = [];
  for (const { decoder, test: file } of decoders) {
    const text = existsSync(join(root, file)) ? readFileSync(join(root, file), 'utf8') : '';
    if (!text.includes('fuzzRuns')) wrong.push(`${file} does not fuzz ${decoder}`);
  }
  expect(wrong).toEqual([]);
  expect(decoders.length).toBeGreaterThan(20);
  process.stdout.write(
    `fuzz: ${decoders.length} decoders, ${fuzzRuns.numRuns} runs a property, FUZZ_SEED=${fuzzRuns.seed}\n${decoders.map(({ decoder, test: file }) => `fuzz:   ${decoder} (${file})\n`).join('')}`,
  );
});
