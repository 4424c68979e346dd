/** The journal read from front to back, whatever lies in its files. */
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { openScan, type ScanOptions } from '../../../filters/common/journal-scan.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { atOf, type StateDir, stateWith } from '../../support/journal-lines.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

let state: StateDir | undefined;
afterEach(() => {
  state?.remove();
  state = undefined;
});

const at = (ms: number, id = String(ms)) => someDecision({ id, at: atOf(ms) });
const scan = (options?: ScanOptions) => {
  const opened = openScan(state?.dir ?? '', options);
  if (opened === undefined) throw new Error('no journal');
  return { ids: [...opened.records()].map((record) => record['id']), opened };
};

describe('what is given', () => {
  test('every record of every file, oldest first, types that are not known among them', () => {
    state = stateWith([at(1), { ...at(2), type: 'of the future' }], [at(3)]);
    expect(scan().ids).toEqual(['1', '2', '3']);
  });

  test('only records since a time; files that end before it are not read', () => {
    state = stateWith([at(10), at(20)], [at(30), at(40)], [at(50)]);
    let read = 0;
    const { ids } = scan({ sinceMs: 35, onProgress: () => (read += 1) });
    expect([ids, read]).toEqual([['40', '50'], 3]);
  });

  test('only lines with one of the texts asked for', () => {
    state = stateWith([at(1, 'dec_A'), at(2, 'dec_B'), at(3, 'dec_AB')]);
    expect(scan({ contains: [Buffer.from('"id":"dec_A')] }).ids).toEqual(['dec_A', 'dec_AB']);
  });

  test('how far it is, up to all of it', () => {
    state = stateWith([at(1)], [at(2), at(3)]);
    const told: number[][] = [];
    scan({ onProgress: (done, all) => told.push([done, all]) });
    const [last] = told.slice(-1);
    expect([told.length, last?.[0]]).toEqual([3, last?.[1]]);
  });

  test('the time of the oldest line that is kept', () => {
    state = stateWith([at(7), at(9)]);
    expect(scan({ sinceMs: 8 }).opened.beginsMs).toBe(7);
  });

  test('nothing of a journal that is not there, and none of an empty one', () => {
    const dir = temporaryDirectory();
    expect(openScan(dir)).toBeUndefined();
    state = stateWith([]);
    expect(scan().ids).toEqual([]);
  });
});

describe('what is no record', () => {
  const file = () => join(state?.dir ?? '', 'journal', 'decisions-0000000001.jsonl');

  test('a damaged line, one too long and an erased one are counted; a cut one may still be written', () => {
    state = stateWith([at(1)]);
    appendFileSync(file(), `{"type":\n${'x'.repeat(limits.journalRecordBytesMax + 1)}\n{"erased":"leaf"}\n`);
    appendFileSync(file(), `${JSON.stringify(at(2))}\n{"type":"deci`);
    const { ids, opened } = scan();
    expect([ids, opened.unreadable(), opened.erased()]).toEqual([['1', '2'], 2, 1]);
  });

  test('no bytes make it throw', () => {
    state = stateWith([]);
    const line = fc.oneof(
      fc.string().map((text) => text.replaceAll('\n', ' ')),
      fc.json(),
      fc.record({ type: fc.anything(), at: fc.anything() }).map((value) => JSON.stringify(value)),
      fc.constant(JSON.stringify(at(5))),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
        writeFileSync(file(), lines.map((text) => `${text}\n`).join(''));
        const { ids, opened } = scan();
        const whole = lines.filter((text) => text === JSON.stringify(at(5))).length;
        expect(ids.length).toBeGreaterThanOrEqual(whole);
        // An empty line is no line of a journal either.
        expect(ids.length + opened.unreadable() + opened.erased()).toBe(lines.length);
      }),
      fuzzRuns,
    );
  });
});
