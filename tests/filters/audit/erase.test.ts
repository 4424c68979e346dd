import { readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { createRecorder } from '../../../filters/audit/audit-record.ts';
import { eraseContent, finishErasing } from '../../../filters/audit/erase.ts';
import { encodeReceipt, makeReceipt, parseReceipt, verifyReceipt } from '../../../filters/audit/receipt.ts';
import { createTileReader } from '../../../filters/audit/tile-reader.ts';
import { verifyLog } from '../../../filters/audit/verify.ts';
import { createIds } from '../../../filters/common/ids.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { openLogWorld, somePair } from '../../support/log-world.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { someDecision, someSettlement } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const pair = somePair();
const open = (stateDir: string) => {
  finishErasing(stateDir);
  const world = openLogWorld(stateDir, pair, { fileBytesMax: 30_000 });
  const clock = movingClock(Date.now());
  const record = createRecorder({
    ...{ clock, ids: createIds(clock), policyVersion: () => '0123456789ab' },
    append: (one) => world.journal.append(one),
  });
  const erase = (which: string | number) =>
    eraseContent({ stateDir, journal: world.journal, log: world.log, record }, which, 'dana', 'asked for');
  const text = () =>
    journalFiles(join(stateDir, 'journal'))
      .map((file) => readFileSync(join(stateDir, 'journal', file), 'utf8'))
      .join('');
  return { ...world, erase, text, files: join(stateDir, 'journal') };
};

const filled = async (count = 300) => {
  const world = open(temporaryDirectory());
  for (let i = 0; i < count; i += 1)
    world.journal.append(
      someDecision({
        id: `dec_${i}x`,
        agent: `spiffe://example.org/${i % 3}`,
        resource: `https://private.example:443/${i}x`,
      }),
    );
  await world.log.flush();
  return world;
};

it('leaves nothing of the record, and every proof of it', async () => {
  const world = await filled();
  const reader = createTileReader(world.directory, 300);
  const published = world.log.newest();
  if (published === undefined) throw new Error('no checkpoint');
  const receipt = encodeReceipt(makeReceipt(reader, published, 77, undefined));
  expect(world.text()).toContain('/77x');
  const [first = ''] = journalFiles(world.files);
  const file = join(world.files, first);
  utimesSync(file, 1_700_000_000, 1_700_000_000);
  const { size } = statSync(file);

  const { leaves, record } = await world.erase('dec_77x');
  expect(leaves).toEqual([77]);
  expect(record).toMatchObject({
    action: 'content_erased',
    by: 'dana',
    resource: 'dec_77x',
    why: 'asked for',
  });
  expect(world.text()).not.toContain('/77x');
  expect(world.text()).toContain('/76x');
  // No line moved, and the file does not look younger than it is.
  expect([statSync(file).size, statSync(file).mtimeMs]).toEqual([size, 1_700_000_000_000]);
  expect(verifyReceipt(parseReceipt(receipt), world.keys()).leaf.agent_seq).toBe(26);
  expect(await verifyLog(world.stateDir, world.keys())).toMatchObject({
    ...{ problems: [], leaves: 301 },
    content: { whole: 300, erased: 1, pruned: 0 },
  });
  await expect(world.erase('dec_77x')).rejects.toMatchObject({ code: 'NotFound' });
  // What was done to the log is told for as long as it is kept.
  await expect(world.erase(record.id)).rejects.toMatchObject({ code: 'RequestMalformed' });
  expect((await world.erase(78)).leaves).toEqual([78]);
  expect(world.text()).not.toContain('/78x');
  await world.close();
});

it('goes on with tree and numbers after the newest records were erased', async () => {
  const world = await filled(10);
  for (const id of ['dec_7x', 'dec_8x', 'dec_9x']) await world.erase(id);
  await world.close();
  const again = open(world.stateDir);
  for (let i = 0; i < 3; i += 1) again.journal.append(someDecision({ agent: `spiffe://example.org/${i}` }));
  await again.log.flush();
  expect(await verifyLog(again.stateDir, again.keys())).toMatchObject({
    problems: [],
    content: { erased: 3 },
  });
  expect(again.heard).toEqual([]);
  await again.close();
});

it('erases what a record is under while it is not yet under a checkpoint', async () => {
  const world = await filled(5);
  world.journal.append(someDecision({ id: 'dec_newx', resource: 'https://private.example:443/new' }));
  expect((await world.erase('dec_newx')).leaves).toEqual([5]);
  expect((await verifyLog(world.stateDir, world.keys())).problems).toEqual([]);
  await world.close();
});

it('erases all of a record, however many others say its id', async () => {
  const world = await filled(1);
  const many = limits.auditErasedRecordsMax + 5;
  for (let i = 0; i < many; i += 1)
    world.journal.append(someDecision({ id: `dec_other${i}`, what: 'dec_0x', request_id: 'dec_0x' }));
  world.journal.append(
    someSettlement({ id: 'dec_0x', resource: 'https://private.example:443/0x', what: 'GET' }),
  );
  expect((await world.erase('dec_0x')).leaves).toEqual([0, many + 1]);
  expect(world.text()).not.toContain('/0x');
  await world.close();
});

it('erases nothing where there is more under an id than one erasure is about', async () => {
  const world = await filled(1);
  for (let i = 0; i < limits.auditErasedRecordsMax; i += 1)
    world.journal.append(someSettlement({ id: 'dec_0x' }));
  const before = world.text();
  await expect(world.erase('dec_0x')).rejects.toMatchObject({
    code: 'RequestTooLarge',
    message: expect.stringContaining(`${limits.auditErasedRecordsMax}`),
  });
  expect(world.text()).toBe(before);
  await world.close();
});

it('makes good at the next start what a crash left undone', async () => {
  const world = await filled(20);
  const lines = world.lines();
  const offset = lines.slice(0, 4).reduce((sum, line) => sum + line.length + 1, 0);
  const leaf = createTileReader(world.directory, 20).entry(4).toString();
  const [file = ''] = journalFiles(world.files);
  const pending = [{ file, offset, bytes: lines[4]?.length, leaf }];
  await world.close();
  writeFileSync(join(world.directory, 'erasing.json'), JSON.stringify(pending));
  const again = open(world.stateDir);
  expect(again.text()).not.toContain('/4x"');
  expect(again.text()).toContain('/5x"');
  expect(await verifyLog(again.stateDir, again.keys())).toMatchObject({
    problems: [],
    content: { erased: 1 },
  });
  await again.close();
  // Once more finds nothing to do; a place that is no line is not written over.
  finishErasing(again.stateDir);
  writeFileSync(
    join(world.directory, 'erasing.json'),
    JSON.stringify([{ ...pending[0], offset: offset + 1 }]),
  );
  expect(refusalOf(() => finishErasing(again.stateDir))).toBe('StateUnavailable');
});

it('reads nothing else for what is to be erased', async () => {
  const world = await filled(3);
  await world.close();
  const before = world.text();
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      writeFileSync(join(world.directory, 'erasing.json'), text);
      expect(refusalOf(() => finishErasing(world.stateDir))).toMatch(/^(none|StateUnavailable)$/);
      expect(world.text()).toBe(before);
    }),
    fuzzRuns,
  );
});
