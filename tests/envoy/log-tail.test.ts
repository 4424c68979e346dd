import { appendFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { outcomeOf } from '../../envoy/hold-outcomes.ts';
import { tailLog } from '../../envoy/log-tail.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const setUp = () => {
  const directory = temporaryDirectory();
  const file = join(directory, 'access.jsonl');
  const place = join(directory, 'place');
  const open = () => {
    const tail = tailLog(file, place, 'hold');
    return (): string[] => {
      const lines: string[] = [];
      while (tail.read((line) => lines.push(line)));
      return lines;
    };
  };
  return { file, open, read: open() };
};

test('only whole lines with the text are given, each once', () => {
  const { file, read } = setUp();
  expect(read()).toEqual([]);
  writeFileSync(file, 'hold 1\nother\nhold 2\nhol');
  expect(read()).toEqual(['hold 1', 'hold 2']);
  expect(read()).toEqual([]);
  appendFileSync(file, 'd 3\n');
  expect(read()).toEqual(['hold 3']);
});

test('a restart goes on where the last one stopped', () => {
  const { file, read, open } = setUp();
  writeFileSync(file, 'hold 1\n');
  read();
  appendFileSync(file, 'hold 2\n');
  expect(open()()).toEqual(['hold 2']);
});

test('rotation loses no line and gives none twice', () => {
  const { file, read } = setUp();
  writeFileSync(file, 'hold 1\n');
  read();
  appendFileSync(file, 'hold 2\n');
  renameSync(file, `${file}.1`);
  writeFileSync(file, 'hold 3\n');
  expect(read()).toEqual(['hold 2', 'hold 3']);
  renameSync(`${file}.1`, `${file}.2`);
  renameSync(file, `${file}.1`);
  writeFileSync(file, 'hold 4\n');
  expect(read()).toEqual(['hold 4']);
});

test('a truncated file is read from its start', () => {
  const { file, read } = setUp();
  writeFileSync(file, 'hold 1\nhold 2\n');
  read();
  truncateSync(file);
  writeFileSync(file, 'hold 3\n');
  expect(read()).toEqual(['hold 3']);
});

test('a place file of garbage means that lines are given again', () => {
  const { file, read, open } = setUp();
  writeFileSync(file, 'hold 1\n');
  read();
  writeFileSync(join(file, '..', 'place'), 'garbage');
  expect(open()()).toEqual(['hold 1']);
});

const hold = 'hold_01M7Y7BFYNHG8H80JZ0NJF1B43';
test.each([
  [{ hold, flags: '-', upstream: '10.0.0.1:443' }, 'Sent'],
  [{ hold, flags: 'DC', upstream: '10.0.0.1:443' }, 'Sent'],
  [{ hold, flags: 'UF,URX', upstream: '10.0.0.1:443' }, 'NotSent'],
  [{ hold, flags: 'DC', upstream: null }, 'NotSent'],
])('%j is %s', (line, outcome) => {
  expect(outcomeOf(JSON.stringify(line))).toEqual({ hold, outcome });
});

test('a line that is no entry of ours says nothing', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
      expect(outcomeOf(line)).toBeUndefined();
    }),
    fuzzRuns,
  );
});
