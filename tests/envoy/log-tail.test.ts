import {
  appendFileSync,
  copyFileSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { type Loss, type Place, tailLog } from '../../envoy/log-tail.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const setUp = () => {
  const file = join(temporaryDirectory(), 'access.jsonl');
  const losses: Loss[] = [];
  const open = (from?: Place) => {
    const tail = tailLog(file, from, (loss) => losses.push(loss));
    const read = (mayGoOn = () => true): string[] => {
      const lines: string[] = [];
      tail.read((line) => lines.push(line), mayGoOn);
      return lines;
    };
    return { tail, read };
  };
  return { file, losses, open, ...open() };
};

test('only whole lines are given, each once', () => {
  const { file, read, losses } = setUp();
  expect(read()).toEqual([]);
  writeFileSync(file, 'one\ntwo\nthr');
  expect(read()).toEqual(['one', 'two']);
  expect(read()).toEqual([]);
  appendFileSync(file, 'ee\n');
  expect(read()).toEqual(['three']);
  expect(losses).toEqual([]);
});

test('a restart goes on where the kept place is', () => {
  const { file, tail, read, open, losses } = setUp();
  writeFileSync(file, 'one\n');
  read();
  const place = tail.place();
  appendFileSync(file, 'two\n');
  read();
  appendFileSync(file, 'three\n');
  expect(open(place).read()).toEqual(['two', 'three']);
  expect(losses).toEqual([]);
});

test('a line whose listener throws is given again, and those before it are not', () => {
  const { file, tail, read } = setUp();
  writeFileSync(file, 'one\ntwo\nthree\n');
  const seen: string[] = [];
  const refuse = (line: string): void => {
    if (line === 'two') throw new Error('not now');
    seen.push(line);
  };
  expect(() => tail.read(refuse, () => true)).toThrow('not now');
  expect(seen).toEqual(['one']);
  expect(read()).toEqual(['two', 'three']);
});

test('each line is told with the place where it begins', () => {
  const { file, tail } = setUp();
  writeFileSync(file, 'one\n\ntwo\n');
  const places: number[] = [];
  tail.read(
    (_, { offset }) => places.push(offset),
    () => true,
  );
  expect(places).toEqual([0, 5]);
});

test('rotation loses no line and gives none twice, also while the old file is still written to', () => {
  const { file, read, losses } = setUp();
  writeFileSync(file, 'one\n');
  read();
  appendFileSync(file, 'two\n');
  renameSync(file, `${file}.1`);
  expect(read()).toEqual(['two']);
  appendFileSync(`${file}.1`, 'three\n');
  expect(read()).toEqual(['three']);
  appendFileSync(`${file}.1`, 'four\ntorn');
  writeFileSync(file, 'five\n');
  expect(read()).toEqual(['four', 'torn', 'five']);
  expect(losses).toEqual([]);
});

test('several rotations between two readings lose no line', () => {
  const { file, tail, read, open, losses } = setUp();
  writeFileSync(file, 'one\n');
  read();
  const place = tail.place();
  for (const line of ['two\n', 'three\n']) {
    if (line === 'three\n') renameSync(`${file}.1`, `${file}.2`);
    renameSync(file, `${file}.1`);
    writeFileSync(file, line);
  }
  expect(read()).toEqual(['two', 'three']);
  expect(open(place).read()).toEqual(['two', 'three']);
  expect(losses).toEqual([]);
});

test('a rotation that is under way, or was never ended, leaves a free number: what is newer is still read', () => {
  const { file, read, losses } = setUp();
  writeFileSync(`${file}.2`, 'one\n');
  writeFileSync(`${file}.1`, 'two\n');
  writeFileSync(file, 'three\n');
  let steps = 0;
  const slowly = (): boolean => {
    steps += 1;
    return false;
  };
  expect(read(slowly)).toEqual(['one']);
  renameSync(`${file}.2`, `${file}.3`);
  renameSync(`${file}.1`, `${file}.2`);
  expect(read(slowly)).toEqual(['two']);
  expect(read()).toEqual(['three']);
  renameSync(file, `${file}.1`);
  writeFileSync(file, 'four\n');
  expect(read()).toEqual(['four']);
  expect([losses, steps]).toEqual([[], 2]);
});

test('a file that was deleted while it was read is read to its end', () => {
  const { file, read, losses } = setUp();
  writeFileSync(file, 'one\n');
  read();
  appendFileSync(file, 'two\n');
  unlinkSync(file);
  expect(read()).toEqual(['two']);
  writeFileSync(file, 'three\n');
  expect(read()).toEqual(['three']);
  expect(losses).toEqual([]);
});

test('a file that was cut is read from its start, and the loss is told', () => {
  const { file, read, losses } = setUp();
  writeFileSync(file, 'one\ntwo\n');
  read();
  truncateSync(file);
  writeFileSync(file, 'three\n');
  expect(read()).toEqual(['three']);
  expect(losses).toEqual(['truncated']);
});

test('a file that was cut and has grown beyond the place again is noticed too', () => {
  const { file, read, losses } = setUp();
  writeFileSync(file, 'one\ntwo\n');
  read();
  truncateSync(file);
  appendFileSync(file, 'three\nfour\nfive\n');
  expect(read()).toEqual(['three', 'four', 'five']);
  expect(losses).toEqual(['truncated']);
});

test('another file under the number of the kept one is noticed', () => {
  const { file, tail, read, open, losses } = setUp();
  writeFileSync(file, 'one\ntwo\n');
  read();
  const place = tail.place();
  writeFileSync(file, 'ein\nzwei\ndrei\n');
  expect(open(place).read()).toEqual(['ein', 'zwei', 'drei']);
  expect(losses).toEqual(['truncated']);
});

test('where the kept file is gone, all there is is read, and the loss is told', () => {
  const { file, tail, read, open, losses } = setUp();
  writeFileSync(file, 'one\n');
  read();
  const place = tail.place();
  copyFileSync(file, `${file}.copy`);
  rmSync(file);
  // A new file would get the number of the one that was deleted.
  renameSync(`${file}.copy`, `${file}.1`);
  writeFileSync(file, 'two\n');
  tail.close();
  expect(open(place && { ...place, inode: '1' }).read()).toEqual(['one', 'two']);
  expect(losses).toEqual(['gone']);
});

test('a reading stops where it is told to, and the next goes on there', () => {
  const { file, tail, read } = setUp();
  const line = 'x'.repeat(99);
  const lines = Math.ceil((limits.ledgerReadBytesMax * 3) / 100);
  writeFileSync(file, `${line}\n`.repeat(lines));
  const first = read(() => false);
  expect(first.length).toBeLessThan(lines / 2);
  expect(first.length + read().length).toBe(lines);
  expect(
    tail.read(
      () => undefined,
      () => true,
    ),
  ).toBe('end');
});

test('a line longer than one reading does not stop those after it', () => {
  const { file, read } = setUp();
  writeFileSync(file, `${'x'.repeat(limits.ledgerReadBytesMax * 2 + 5)}\nafter\n`);
  expect(read().at(-1)).toBe('after');
});

test('what is not read yet is told', () => {
  const { file, tail, read } = setUp();
  writeFileSync(file, 'one\n');
  read();
  renameSync(file, `${file}.1`);
  writeFileSync(file, 'two\n');
  expect([tail.hasRead(file), tail.hasRead(`${file}.1`), tail.hasRead(`${file}.2`)]).toEqual([
    ...[false, false, true],
  ]);
  read();
  expect([tail.hasRead(file), tail.hasRead(`${file}.1`)]).toEqual([false, true]);
});
