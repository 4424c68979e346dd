import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { createAuthority, openAuthority, plainAuthority } from '../../envoy/authority.ts';
import { createClock } from '../../filters/common/time.ts';
import { authorityIn, ringIn } from '../support/keys.ts';
import { movingClock } from '../support/moving-clock.ts';

let dir: string;
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'authority-'));
  dir = join(home, 'state');
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const leafOf = (pem: string): X509Certificate => new X509Certificate(pem);

test('the authority stays the same when it is opened again, and its key is its owner’s alone', async () => {
  const first = await authorityIn(dir, createClock());
  const second = await authorityIn(dir, createClock());
  expect(second.caPem).toBe(first.caPem);
  expect(statSync(join(dir, 'keys', 'keys.json')).mode & 0o777).toBe(0o600);
  const ca = new X509Certificate(first.caPem);
  expect(ca.ca).toBe(true);
  expect(leafOf((await second.mint('a.test')).certificatePem).verify(ca.publicKey)).toBe(true);
});

test('a certificate proves exactly the host that it was minted for', async () => {
  const authority = await authorityIn(dir, createClock());
  const name = leafOf((await authority.mint('a.test')).certificatePem);
  expect(name.checkHost('a.test')).toBe('a.test');
  expect(name.checkHost('b.test')).toBeUndefined();
  expect(name.ca).toBe(false);
  expect(leafOf((await authority.mint('127.0.0.1')).certificatePem).checkIP('127.0.0.1')).toBe('127.0.0.1');
  expect(leafOf((await authority.mint('2001:db8::1')).certificatePem).checkIP('2001:db8::1')).toBe(
    '2001:db8::1',
  );
  const long = `${'a'.repeat(63)}.${'b'.repeat(63)}.test`;
  expect(leafOf((await authority.mint(long)).certificatePem).checkHost(long)).toBe(long);
});

test('the same name is minted once, also by many at the same time', async () => {
  const authority = await authorityIn(dir, createClock());
  const minted = await Promise.all(Array.from({ length: 200 }, () => authority.mint('a.test')));
  expect(new Set(minted.map((one) => one.certificatePem)).size).toBe(1);
  expect(authority.size()).toBe(1);
});

test('the cache is bounded', async () => {
  const authority = await authorityIn(dir, createClock());
  for (let i = 0; i < limits.certificateCacheMax + 20; i++) await authority.mint(`h${i}.test`);
  expect(authority.size()).toBe(limits.certificateCacheMax);
});

test('a certificate is renewed before it ends, and not earlier', async () => {
  let now = Date.parse('2030-01-01');
  const authority = await authorityIn(
    dir,
    createClock(() => now),
  );
  const first = await authority.mint('a.test');
  expect(first.notAfterMs).toBe(now + limits.certificateLifetimeMs);
  now = first.notAfterMs - limits.certificateRenewBeforeMs - 1;
  expect(await authority.mint('a.test')).toBe(first);
  now += 1;
  const next = await authority.mint('a.test');
  expect(next.notAfterMs).toBe(now + limits.certificateLifetimeMs);
});

test('more waiting mints than the limit are refused as overload', async () => {
  const authority = await authorityIn(dir, createClock());
  const count = limits.certificateMintsConcurrentMax + limits.certificateMintsWaitingMax + 5;
  const outcomes = await Promise.allSettled(
    Array.from({ length: count }, (_, i) => authority.mint(`h${i}.test`)),
  );
  const refused = outcomes.filter((one) => one.status === 'rejected');
  expect(refused.length).toBe(5);
  expect(refused[0]).toMatchObject({ reason: { code: 'Overloaded' } });
});

const fixture = readFileSync(join(import.meta.dirname, 'fixtures/plain-authority.pem'), 'utf8');
const fixtureClock = () => movingClock(Date.parse('2026-11-21'));

test('a key of the time before sealing is read only with its own certificate', async () => {
  const certificate = fixture.slice(fixture.indexOf('-----BEGIN CERTIFICATE'));
  const other = (await createAuthority(createClock()))[0]?.public ?? '';
  const key = fixture.slice(0, fixture.indexOf('-----BEGIN CERTIFICATE'));
  const damaged = [
    '',
    'garbage',
    fixture.slice(0, 100),
    certificate,
    fixture.replace(/[A-Za-z0-9+/]{20}\n-----END PRIVATE/, `${'A'.repeat(20)}\n-----END PRIVATE`),
    key + other,
  ];
  for (const text of damaged)
    await expect(plainAuthority('/x/authority.pem', text, fixtureClock())).rejects.toMatchObject({
      code: 'StateUnavailable',
      message: expect.stringContaining('/x/authority.pem'),
    });
  expect((await plainAuthority('/x/authority.pem', fixture, fixtureClock())).public.trim()).toBe(
    certificate.trim(),
  );
});

test('no file of the state holds the key in the clear', async () => {
  const ring = await ringIn(dir);
  await openAuthority(ring, createClock());
  const [open] = ring.open('authority');
  const der = open?.privateKey.export({ type: 'pkcs8', format: 'der' });
  const secret = open?.privateKey.export({ format: 'jwk' }).d ?? 'absent';
  const bytes = readFileSync(ring.file);
  expect(bytes.includes(der?.subarray(36, 68) ?? '')).toBe(false);
  expect(bytes.toString()).not.toContain(secret.slice(0, 20));
  expect(bytes.toString()).not.toContain(Buffer.from(secret, 'base64url').toString('base64').slice(0, 20));
  expect(bytes.toString()).not.toContain('PRIVATE');
});

test('an authority that has ended is an error, not a new one', async () => {
  const clock = movingClock(Date.parse('2030-01-01'));
  await authorityIn(dir, clock);
  clock.pass(limits.authorityLifetimeMs + 1);
  await expect(authorityIn(dir, clock)).rejects.toMatchObject({ code: 'StateUnavailable' });
});

test('a rotation publishes the new authority first, then signs by it, and trusts the old one until its leaves end', async () => {
  const clock = movingClock(Date.parse('2030-01-01'));
  const ring = await ringIn(dir, clock.wallMs);
  const authority = await openAuthority(ring, clock);
  const old = authority.caPem;
  const signer = async (): Promise<string> => {
    const [leaf = '', issuer = ''] = (await authority.mint('a.test')).certificatePem.split(
      /(?<=-----END CERTIFICATE-----\n)/,
    );
    expect(new X509Certificate(leaf).verify(new X509Certificate(issuer).publicKey)).toBe(true);
    return issuer;
  };
  expect(await signer()).toBe(old);

  await ring.rotate('authority', () => createAuthority(clock), { now: false, by: '' });
  await authority.refresh();
  expect(authority.caPem.startsWith(old)).toBe(true);
  const next = authority.caPem.slice(old.length);
  expect(new X509Certificate(next).ca).toBe(true);
  expect(await signer()).toBe(old);

  clock.pass(60_000);
  expect(ring.settle(60_001)).toBe(false);
  clock.pass(1);
  expect(ring.settle(60_001)).toBe(true);
  await authority.refresh();
  expect(await signer()).toBe(next);
  expect(authority.caPem).toBe(old + next);
  expect(ring.open('authority').map(({ entry }) => entry.public)).toHaveLength(1);
  clock.pass(limits.certificateLifetimeMs);
  expect(authority.caPem).toBe(next);
  // The old one's private part is gone from the disk too.
  expect(ring.list()[0]).not.toHaveProperty('sealed');
  const again = await authorityIn(dir, clock);
  expect(again.caPem).toBe(next);
});

test('a rotation at once ends the trust in the old authority at once', async () => {
  const clock = movingClock(Date.parse('2030-01-01'));
  const ring = await ringIn(dir, clock.wallMs);
  const authority = await openAuthority(ring, clock);
  const old = authority.caPem;
  const before = await authority.mint('a.test');
  await ring.rotate('authority', () => createAuthority(clock), { now: true, by: '' });
  await authority.refresh();
  expect(authority.caPem).not.toContain(old.trim());
  const after = await authority.mint('a.test');
  expect(after).not.toBe(before);
  expect(leafOf(after.certificatePem).verify(new X509Certificate(authority.caPem).publicKey)).toBe(true);
});
