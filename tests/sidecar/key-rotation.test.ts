/** Rotation with the real key ring, journal and audit log. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, expect, test } from 'vitest';
import { openAuthority } from '../../envoy/authority.ts';
import { isKeyRingName, type KeyRing, noteKeyDrafts } from '../../filters/audit/keys.ts';
import { parseNote, parseVkey, verifyNote } from '../../filters/audit/note.ts';
import { parseReceipt, verifyReceipt } from '../../filters/audit/receipt.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { AuditRecord, JournalRecord } from '../../filters/common/record.ts';
import { createKeyRotation } from '../../sidecar/key-rotation.ts';
import { trailDirectory } from '../../sidecar/keys.ts';
import { receiptOf } from '../../sidecar/receipts.ts';
import { ringIn } from '../support/keys.ts';
import { type MovingClock, movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { endAll, grow, type Instance, instance } from '../support/witness-world.ts';

afterEach(endAll);

const overlapMs = 3_600_000;

async function rotationOf(
  one: Instance,
  clock: MovingClock,
  ring: KeyRing = one.ring,
  refuses = () => false,
) {
  const authority = await openAuthority(ring, clock);
  const published: string[] = [];
  const rotation = createKeyRotation({
    ...{ ring, overlapMs, stateDir: one.stateDir, clock, authority },
    ids: createIds(clock),
    log: pino({ level: 'silent' }),
    journal: {
      append: (record) => {
        if (refuses()) throw new Error('full');
        one.journal.append(record);
      },
    },
    policyVersion: () => '0123456789ab',
    publishTrust: (pem) => void published.push(pem),
    receiptOf: (id) => receiptOf(one.stateDir, one.log, id),
  });
  rotation.stop();
  return { rotation, published, authority };
}
/** Keys and rotation on one clock that the test moves. */
async function world() {
  const home = temporaryDirectory();
  // In the past: a record is looked for in files that were written after its id was made.
  const clock = movingClock(Date.now() - 7 * 24 * overlapMs);
  const one = await instance('a', join(home, 'a'), clock);
  return { one, clock, ...(await rotationOf(one, clock)) };
}
const isAudit = (record: JournalRecord): record is AuditRecord => record.type === 'audit';
const records = (one: Instance): readonly AuditRecord[] => one.journal.tail(100).filter(isAudit).reverse();
const statesOf = (one: Instance, name: string): string[] => [
  ...new Set(
    one.ring
      .list()
      .filter((key) => key.name === name)
      .map((key) => `${key.version} ${key.state}`),
  ),
];

test('a log key’s successor is named by a record, proven by a checkpoint that the old key signed', async () => {
  const { one, clock, rotation } = await world();
  const before = one.vkeys.map(parseVkey);
  await grow(one, 3);
  await rotation.rotate('log', { now: false, by: 'dana' });
  const [record] = records(one);
  expect(record).toMatchObject({
    ...{ action: 'key_rotated', by: 'dana', resource: 'key:log', outcome: 'Success', agent: '' },
    details: { version: 2, ed25519: expect.stringContaining(one.origin) },
  });
  const after = [record?.details['ed25519'], record?.details['ml_dsa_44']].map((vkey) =>
    parseVkey(String(vkey)),
  );
  expect(statesOf(one, 'log')).toEqual(['1 retiring', '2 active']);

  // Nobody has proven it yet: the old key stays, however long.
  clock.pass(2 * overlapMs);
  await rotation.look();
  expect(statesOf(one, 'log')).toEqual(['1 retiring', '2 active']);

  await one.log.flush();
  const note = parseNote(one.log.newest()?.note ?? '');
  expect([verifyNote(note, before)?.length, verifyNote(note, after)?.length]).toEqual([2, 2]);
  await rotation.look();
  expect(readdirSync(trailDirectory(one.stateDir))).toEqual(['log-v2.tlog-proof']);
  const receipt = parseReceipt(readFileSync(join(trailDirectory(one.stateDir), 'log-v2.tlog-proof'), 'utf8'));
  const verdict = verifyReceipt(receipt, before);
  expect([verdict.content, verdict.signers.map(({ id }) => id)]).toEqual([true, before.map(({ id }) => id)]);
  expect(receipt.line).toContain(String(record?.details['ed25519']));

  expect(statesOf(one, 'log')).toEqual(['1 retired', '2 active']);
  await grow(one, 3);
  const last = parseNote(one.log.newest()?.note ?? '');
  expect([verifyNote(last, before)?.length, verifyNote(last, after)?.length]).toEqual([0, 2]);
});

test('a rotation is on record once, also after more looks and a restart', async () => {
  const { one, clock, rotation } = await world();
  await rotation.rotate('log', { now: false, by: 'dana' });
  await rotation.look();
  const again = await rotationOf(one, clock, await ringIn(one.stateDir, clock.wallMs));
  await again.rotation.look();
  expect(records(one)).toHaveLength(1);
  expect(again.rotation.view().keys.map(({ record }) => record !== '')).toEqual([
    false,
    false,
    false,
    true,
    true,
  ]);
});

test('what was rotated while no sidecar ran is on record after the next look', async () => {
  const { one, clock } = await world();
  const offline = await ringIn(one.stateDir, clock.wallMs);
  await offline.rotate('log', () => noteKeyDrafts(one.origin), { now: true, by: 'lee' });
  const { rotation } = await rotationOf(one, clock, await ringIn(one.stateDir, clock.wallMs));
  expect(records(one)).toEqual([]);
  await rotation.look();
  expect(records(one)).toMatchObject([{ by: 'lee', why: 'the key before is revoked' }]);
});

test('where the record cannot be written the key is a new one all the same, and the record follows', async () => {
  const { one, clock } = await world();
  let full = true;
  const { rotation } = await rotationOf(one, clock, one.ring, () => full);
  const view = await rotation.rotate('log', { now: false, by: 'dana' });
  expect(view.keys.filter(({ state }) => state === 'active').map(({ id }) => id)).toContain('log-ed25519-v2');
  expect(records(one)).toEqual([]);
  full = false;
  await rotation.look();
  expect(records(one)).toMatchObject([{ by: 'dana' }]);
});

test('agents are given both authorities, then leaves of the new one, then the new one alone', async () => {
  const { one, clock, rotation, published, authority } = await world();
  const old = authority.caPem;
  await rotation.rotate('authority', { now: false, by: 'dana' });
  expect(published).toHaveLength(1);
  expect(published[0]?.startsWith(old)).toBe(true);
  expect(authority.epoch()).toBe(1);
  clock.pass(overlapMs);
  await rotation.look();
  expect([authority.epoch(), published.length]).toEqual([2, 1]);
  clock.pass(24 * 3_600_000);
  await rotation.look();
  expect(published).toHaveLength(2);
  expect(published[1]).toBe((published[0] ?? '').slice(old.length));
  expect(records(one)).toMatchObject([
    {
      resource: 'key:authority',
      details: { version: 2, ecdsa_p256: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) },
    },
  ]);
});

test('two rotations that are asked for at once are one after the other, and the second is refused', async () => {
  const { one, rotation } = await world();
  const both = await Promise.allSettled([
    rotation.rotate('log', { now: false, by: 'dana' }),
    rotation.rotate('log', { now: false, by: 'lee' }),
  ]);
  expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  expect(statesOf(one, 'log')).toEqual(['1 retiring', '2 active']);
});

test('what is shown of keys is nothing private', async () => {
  const { one, rotation } = await world();
  const shown = JSON.stringify(rotation.view());
  for (const { sealed } of one.ring.list()) expect(shown).not.toContain(sealed?.box ?? 'absent');
  for (const { entry, privateKey } of one.ring.open('log')) {
    const der = privateKey.export({ type: 'pkcs8', format: 'der' });
    expect(shown).not.toContain(der.toString('base64').slice(-24));
    expect(isKeyRingName(entry.name)).toBe(true);
  }
});
