/** The audit log as a sidecar opens it: with its keys, what governs it, and what is asked of it. */
import { existsSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, expect, it } from 'vitest';
import { settingsSchema } from '../../config/settings.ts';
import { readVkeys } from '../../filters/audit/log.ts';
import { parseVkey } from '../../filters/audit/note.ts';
import { newestEntries } from '../../filters/audit/query.ts';
import { parseReceipt, verifyReceipt } from '../../filters/audit/receipt.ts';
import { verifyLog } from '../../filters/audit/verify.ts';
import { createIds } from '../../filters/common/ids.ts';
import { openJournal } from '../../filters/common/journal-file.ts';
import { journalFiles } from '../../filters/common/journal-segments.ts';
import { createClock } from '../../filters/common/time.ts';
import { type AppliedPolicy, openAudit } from '../../sidecar/audit.ts';
import { createEnding } from '../../sidecar/ending.ts';
import { createMetrics } from '../../sidecar/metrics.ts';
import { restoredFile } from '../../sidecar/restored.ts';
import { ringIn } from '../support/keys.ts';
import { refusalOf } from '../support/refusal.ts';
import { someDecision, someSettlement } from '../support/some-record.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const keysIn = (stateDir: string) => readVkeys(join(stateDir, 'audit')).map(parseVkey);
const log = pino({ level: 'silent' });
const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

async function open(stateDir: string, audit: object = {}, smaller: object = {}) {
  const clock = createClock();
  const metrics = createMetrics();
  const ending = createEnding(log);
  const journalFile = openJournal(stateDir, { clock, fileBytesMax: 20_000 });
  const listeners: ((policy: AppliedPolicy) => void)[] = [];
  let close = async (): Promise<void> => journalFile.close();
  opened.push(async () => {
    await ending.run();
    await close();
  });
  const one = await openAudit({
    ...{ stateDir, clock, log, metrics, ending, ids: createIds(clock) },
    settings: {
      ...settingsSchema.parse({ audit: { origin: 'example.org/log', ...audit } }).audit,
      // Below what a file of settings may say.
      ...smaller,
    },
    keys: await ringIn(stateDir),
    state: {
      ...{ journal: journalFile, journalFile },
      follow: (follower) => {
        journalFile.follow(follower);
        close = async () => {
          journalFile.close();
          await follower.close();
        };
      },
    },
    policy: {
      current: () => ({ version: 'old' }),
      onApplied: (listener) => {
        listeners.push(listener);
      },
    },
  });
  return {
    ...{ ...one, stateDir, metrics, journalFile },
    files: join(stateDir, 'journal'),
    apply: (version: string) => {
      for (const listener of listeners) listener({ version, source: { rules: [] } });
    },
    end: () => opened.splice(0).reduce((before, one) => before.then(one), Promise.resolve()),
  };
}

it('signs by the key ring, and gives receipts of what is under a checkpoint', async () => {
  const one = await open(temporaryDirectory());
  one.journalFile.append(someDecision());
  expect(await one.receiptOf(someDecision().id)).toBeUndefined();
  await one.log.flush();
  const receipt = parseReceipt((await one.receiptOf(someDecision().id)) ?? '');
  const verdict = verifyReceipt(receipt, keysIn(one.stateDir));
  expect([verdict.checkpoint.origin, verdict.signers.length, verdict.content]).toEqual([
    'example.org/log',
    2,
    true,
  ]);
  expect((await one.metrics.render()).text).toContain('sallyport_audit_leaves 1');
  expect(await one.probes()[0]?.ask()).toMatchObject({ status: 'Healthy' });
});

it('keeps the name that the log was begun with', async () => {
  const one = await open(temporaryDirectory());
  await one.end();
  await expect(open(one.stateDir, { origin: 'example.org/other' })).rejects.toMatchObject({
    code: 'SettingsInvalid',
  });
  const again = await open(one.stateDir, { origin: '' });
  again.journalFile.append(someDecision());
  await again.log.flush();
  expect(again.log.newest()?.origin).toBe('example.org/log');
});

it('puts a change of the policy and a restored backup on record', async () => {
  const stateDir = temporaryDirectory();
  writeFileSync(restoredFile(stateDir), '{}');
  const one = await open(stateDir);
  one.apply('new');
  expect(newestEntries(one.files, {}, 9).map(({ event, resource }) => [event, resource])).toEqual([
    ['policy_changed', 'policy:new'],
    ['log_restored', 'backup'],
  ]);
  expect(existsSync(restoredFile(stateDir))).toBe(false);
});

it('lets go what is due when it starts', async () => {
  const one = await open(temporaryDirectory());
  for (let i = 0; i < 600; i += 1) one.journalFile.append(someDecision());
  await one.log.flush();
  await one.end();
  const [first = '', second = ''] = journalFiles(one.files);
  utimesSync(join(one.files, first), 1_000, 1_000);
  const again = await open(one.stateDir);
  // Ending waits for the look that is under way.
  await again.end();
  expect(journalFiles(again.files)[0]).toBe(second);
  const [act] = newestEntries(again.files, { event: 'content_pruned' }, 1);
  expect(act).toMatchObject({ resource: first, why: 'older than audit.retention_days, 90 days' });
  expect(await verifyLog(again.stateDir, keysIn(again.stateDir))).toMatchObject({
    problems: [],
    content: { waiting: 0 },
  });
});

it('refuses the agent who filled it within a day, keeps what others wrote, and lets them go on', async () => {
  const one = await open(temporaryDirectory(), {}, { content_bytes_max: 60_000 });
  const from = (agent: string, changes: object = {}) => someDecision({ agent, ...changes });
  one.journalFile.append(from('victim', { id: 'dec_evidence' }));
  const flood = async (): Promise<number> => {
    let sent = 0;
    for (; sent < 1_000; sent += 1) {
      one.journalFile.append(from('robot', { why: 'x'.repeat(500) }));
      if (sent % 10 === 9) {
        await one.log.flush();
        // A look at retention reads the sizes of the files.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    return sent;
  };
  await expect(flood()).rejects.toMatchObject({ code: 'StateUnavailable' });
  await one.log.flush();
  expect(newestEntries(one.files, { event: 'content_pruned' }, 1)).toEqual([]);
  expect(one.journalFile.find('dec_evidence')).toBeDefined();
  one.journalFile.append(from('victim'));
  // What became of calls that passed is written all the same.
  one.journalFile.append(someSettlement({ agent: 'robot' }));
  expect(await one.probes()[0]?.ask()).toMatchObject({
    status: 'Degraded',
    detail: expect.stringContaining('audit.content_bytes_max'),
  });
});

it('is unhealthy, and nothing is written, while the log cannot grow', async () => {
  const one = await open(temporaryDirectory());
  one.journalFile.append(someDecision());
  await one.log.flush();
  const tiles = join(one.stateDir, 'audit/tile');
  rmSync(tiles, { recursive: true });
  writeFileSync(tiles, '');
  one.journalFile.append(someDecision());
  await expect(one.log.flush()).rejects.toMatchObject({ code: 'StateUnavailable' });
  expect(refusalOf(() => one.journalFile.append(someDecision()))).toBe('StateUnavailable');
  expect(await one.probes()[0]?.ask()).toMatchObject({
    status: 'Unhealthy',
    detail: expect.stringContaining('cannot grow'),
  });
  rmSync(tiles);
  await one.log.flush();
  expect(await one.probes()[0]?.ask()).toMatchObject({ status: 'Healthy' });
});

it('erases by id and by leaf for whoever asks the admin API', async () => {
  const one = await open(temporaryDirectory());
  one.journalFile.append(someDecision());
  const { leaves, record } = await one.erase(someDecision().id, 'dana', 'asked for');
  expect([leaves, record.by, record.policy_version]).toEqual([[0], 'dana', 'old']);
  await expect(one.erase(0, 'dana', 'again')).rejects.toMatchObject({ code: 'NotFound' });
});
