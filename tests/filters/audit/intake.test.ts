import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createIntake } from '../../../filters/audit/intake.ts';
import { createPseudonyms } from '../../../filters/audit/leaf.ts';
import { createTree } from '../../../filters/audit/tree.ts';
import { openJournal } from '../../../filters/common/journal-file.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

test.each([
  ['read from the file', false],
  ['made as it was written', true],
])('no line becomes a leaf before it is on the disk, %s', async (_name, isOffered) => {
  const stateDir = temporaryDirectory();
  const journal = openJournal(stateDir, { clock: movingClock() });
  onTestFinished(() => journal.close());
  const tree = createTree(temporaryDirectory(), { size: 0, edges: [] });
  const synced: string[] = [];
  let isBroken = true;
  const directory = join(stateDir, 'journal');
  const intake = createIntake({
    ...{ directory, tree, pseudonym: createPseudonyms(Buffer.alloc(32)), start: undefined },
    sync: async (path) => {
      expect(tree.size()).toBe(0);
      if (isBroken) throw new Error('EIO');
      synced.push(path);
    },
    onError: (error) => {
      throw error;
    },
  });
  if (isOffered)
    journal.follow({
      refusal: () => undefined,
      appended: (written) => {
        for (const one of written) intake.offer(one);
      },
    });
  journal.append(someDecision());
  await expect(intake.takeTo(journal.place())).rejects.toThrow('EIO');
  expect(tree.size()).toBe(0);
  isBroken = false;
  expect(await intake.takeTo(journal.place())).toBe(1);
  expect([tree.size(), synced]).toEqual([1, [join(directory, journal.place().file)]]);
});
