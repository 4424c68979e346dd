import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { SallyportError } from '../../../config/errors.ts';
import { limits } from '../../../config/limits.ts';
import { type JournalFile, openJournal } from '../../../filters/common/journal-file.ts';
import { linesFrom, linesOf } from '../../../filters/common/journal-lines.ts';
import { decodeLine } from '../../../filters/common/journal-record.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const world = (fileBytesMax = 4_000) => {
  const stateDir = temporaryDirectory();
  const directory = join(stateDir, 'journal');
  const heard: SallyportError[] = [];
  const open = (): JournalFile =>
    openJournal(stateDir, { clock: movingClock(), fileBytesMax, onError: (error) => heard.push(error) });
  /** Every record's agent and number, in the order of the journal. */
  const numbers = () =>
    [...linesFrom(directory, undefined)].map(({ bytes }) => {
      const line = decodeLine(bytes ?? Buffer.alloc(0));
      if (line?.kind !== 'record' || line.sequenced === undefined) throw new Error('a line without a number');
      return [line.record.agent, line.sequenced.seq] as const;
    });
  return { directory, heard, open, numbers };
};

const agents = ['spiffe://example.org/a', 'spiffe://example.org/b', '', '__proto__'];

it('numbers the records of each agent from 1 without gaps, through restarts and kills', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constantFrom(...agents), fc.constantFrom('restart', 'kill' as const)), {
        maxLength: 60,
      }),
      (steps) => {
        const { open, numbers, heard } = world(3_000);
        let journal = open();
        const counts = new Map<string, number>();
        const expected: (readonly [string, number])[] = [];
        for (const step of steps) {
          if (step === 'restart') journal.close();
          if (step === 'restart' || step === 'kill') journal = open();
          else {
            journal.append(someDecision({ agent: step }));
            counts.set(step, (counts.get(step) ?? 0) + 1);
            expected.push([step, counts.get(step) ?? 0]);
          }
        }
        expect(numbers()).toEqual(expected);
        expect(heard).toEqual([]);
        journal.close();
      },
    ),
    { ...fuzzRuns, numRuns: 30 },
  );
});

it('gives each record a salt of its own', () => {
  const { directory, open } = world(1_000_000);
  const journal = open();
  for (let i = 0; i < 3_000; i += 1) journal.append(someDecision());
  journal.close();
  const salts = [...linesFrom(directory, undefined)].map(({ bytes }) => {
    const line = decodeLine(bytes ?? Buffer.alloc(0));
    return line?.kind === 'record' ? line.sequenced?.salt.toString('hex') : undefined;
  });
  expect(new Set(salts).size).toBe(3_000);
});

it('does not use up a number for a record that was refused', () => {
  const { open, numbers } = world();
  const journal = open();
  journal.append(someDecision());
  expect(refusalOf(() => journal.append(someDecision({ rule: 'x'.repeat(70_000) })))).toBe('RequestTooLarge');
  journal.append(someDecision());
  expect(numbers().map(([, seq]) => seq)).toEqual([1, 2]);
  journal.close();
});

it('uses a number again where a power cut took the record that had it', () => {
  const { directory, open, numbers, heard } = world();
  const journal = open();
  for (let i = 0; i < 3; i += 1) journal.append(someDecision());
  const file = join(directory, journalFiles(directory)[0] ?? '');
  truncateSync(file, readFileSync(file).length - 10);
  const again = open();
  again.append(someDecision());
  expect(numbers().map(([, seq]) => seq)).toEqual([1, 2, 3]);
  expect(heard.map(({ message }) => message)).toEqual([expect.stringContaining('cut short')]);
  again.close();
});

it('never gives a number twice after a line was taken out, and says which is missing', () => {
  const { directory, open, numbers, heard } = world(1_000_000);
  const journal = open();
  for (let i = 0; i < 5; i += 1) journal.append(someDecision());
  const file = join(directory, journalFiles(directory)[0] ?? '');
  const lines = readFileSync(file, 'utf8').split('\n');
  writeFileSync(file, lines.filter((_, i) => i !== 2).join('\n'));
  const again = open();
  expect(heard.map(({ message }) => message)).toEqual([expect.stringContaining('record 4 of agent')]);
  again.append(someDecision());
  expect(numbers().map(([, seq]) => seq)).toEqual([1, 2, 4, 5, 6]);
  again.close();
});

it('counts from the lines where the snapshot is gone, and refuses one that is damaged', () => {
  const { directory, open, numbers } = world();
  const journal = open();
  for (let i = 0; i < 30; i += 1) journal.append(someDecision());
  journal.close();
  rmSync(join(directory, 'sequences.json'));
  const again = open();
  again.append(someDecision());
  again.close();
  expect(numbers().at(-1)).toEqual([someDecision().agent, 31]);
  for (const damaged of [
    '',
    '{}',
    '{"file":"x","offset":-1,"agents":{}}',
    '{"file":"x","offset":1,"agents":{"a":"1"}}',
  ]) {
    writeFileSync(join(directory, 'sequences.json'), damaged);
    expect(refusalOf(open)).toBe('StateUnavailable');
  }
});

it('reads no snapshot out of any other bytes', () => {
  const { directory, open } = world();
  open().close();
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      writeFileSync(join(directory, 'sequences.json'), text);
      expect(refusalOf(() => open().close())).toMatch(/^(none|StateUnavailable)$/);
    }),
    fuzzRuns,
  );
});

it('keeps lines from before it counted in files of their own', () => {
  const { directory, open, numbers } = world();
  open().close();
  const [first = ''] = journalFiles(directory);
  appendFileSync(join(directory, first), `${JSON.stringify(someDecision({ id: 'dec_old' }))}\n`);
  rmSync(join(directory, 'sequences.json'));
  const journal = open();
  journal.append(someDecision({ id: 'dec_new' }));
  expect(journalFiles(directory)).toHaveLength(2);
  expect(journal.tail(9).map(({ id }) => id)).toEqual(['dec_new', 'dec_old']);
  expect(numbers).toThrow('without a number');
  journal.close();
});

it('writes several records at once, each with its own number, or none of them', () => {
  const { open, numbers, directory } = world(1_000_000);
  const journal = open();
  const placed: (readonly [string, number, number])[] = [];
  journal.follow({
    refusal: () => undefined,
    appended: (written) => {
      for (const { file, offset, end } of written) placed.push([file, offset, end]);
    },
  });
  const of = (agent: string, why = '') => someDecision({ agent, why });
  journal.append(of('a'), of('b'), of('a'));
  const tooLarge = { ...of('b'), id: 'x'.repeat(limits.journalRecordBytesMax) };
  expect(() => journal.append(of('a'), tooLarge)).toThrow('at most');
  journal.append(of('b'), of('a'));
  expect(numbers()).toEqual([
    ['a', 1],
    ['b', 1],
    ['a', 2],
    ['b', 2],
    ['a', 3],
  ]);
  expect(placed).toEqual(
    [...linesFrom(directory, undefined)].map(({ file, offset, end }) => [file, offset, end]),
  );
  journal.close();
});

it('asks its follower before it writes, and tells it after', () => {
  const { open } = world();
  const journal = open();
  let refusal: SallyportError | undefined;
  let told = 0;
  journal.follow({
    refusal: () => refusal,
    appended: (written) => {
      told += written.length;
    },
  });
  journal.append(someDecision());
  refusal = Object.assign(new Error('behind')) as SallyportError;
  expect(() => journal.append(someDecision())).toThrow('behind');
  refusal = undefined;
  journal.append(someDecision());
  expect([told, journal.tail(9).length]).toEqual([2, 2]);
  journal.close();
});

it('reads lines across chunks, past such as are too long, up to the last whole one', () => {
  const { directory, open } = world();
  open().close();
  const [file = ''] = journalFiles(directory);
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.nat(100),
          fc.constantFrom(limits.journalRecordBytesMax, limits.journalRecordBytesMax + 1, 600_000),
        ),
        { maxLength: 8 },
      ),
      fc.nat(50),
      (lengths, rest) => {
        const text = lengths.map((length, i) => `${String.fromCharCode(97 + i).repeat(length)}\n`).join('');
        writeFileSync(join(directory, file), `${text}${'z'.repeat(rest)}`);
        const read = [...linesOf(directory, file)];
        let offset = 0;
        expect(read.map(({ bytes, offset: at, end }) => [bytes?.length, at, end])).toEqual(
          lengths.map((length) => {
            const at = offset;
            offset += length + 1;
            return [length > limits.journalRecordBytesMax ? undefined : length, at, offset];
          }),
        );
        for (const [i, { bytes }] of read.entries())
          expect(bytes?.every((byte) => byte === 97 + i) ?? true).toBe(true);
        const second = read[1];
        if (second !== undefined) expect([...linesOf(directory, file, second.offset)]).toEqual(read.slice(1));
      },
    ),
    { ...fuzzRuns, numRuns: 50 },
  );
});
