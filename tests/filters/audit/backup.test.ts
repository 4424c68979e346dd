/** A backup that is taken while the log grows is a log that goes on from some moment before it ended. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readCheckpoint } from '../../../filters/audit/log.ts';
import { verifyLog } from '../../../filters/audit/verify.ts';
import { backup, restore } from '../../../filters/common/backup.ts';
import { openLogWorld, somePair } from '../../support/log-world.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

it('restores a log that was backed up while it grew, through tiles, files and checkpoints', async () => {
  const pair = somePair();
  const world = openLogWorld(temporaryDirectory(), pair, { fileBytesMax: 60_000 });
  const target = temporaryDirectory();
  // Comes first in the backup, so that the log has grown by much between the listing and its turn.
  writeFileSync(join(world.stateDir, 'a-large-file'), randomBytes(4 << 20));
  let written = 0;
  const write = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i += 1, written += 1)
      world.journal.append(
        someDecision({ id: `dec_${written}`, agent: `spiffe://example.org/${written % 3}` }),
      );
    await world.log.flush();
  };
  await write(700);
  for (let round = 0; round < 5; round += 1) {
    const file = join(target, `${round}.backup`);
    let isDone = false;
    const taken = backup(world.stateDir, file).finally(() => {
      isDone = true;
    });
    const before = written;
    while (!isDone) await write(61);
    await taken;
    expect(written).toBeGreaterThan(before);

    const restored = join(target, `state-${round}`);
    await restore(file, restored);
    expect(readCheckpoint(join(restored, 'audit'))?.size).toBeGreaterThanOrEqual(700);
    const again = openLogWorld(restored, pair, { fileBytesMax: 60_000 });
    again.journal.append(someDecision());
    await again.log.flush();
    expect((await verifyLog(restored, again.keys())).problems).toEqual([]);
    expect(again.heard.filter(({ message }) => !message.includes('cut short'))).toEqual([]);
    await again.close();
  }
  await world.close();
});
