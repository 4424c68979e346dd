import { X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { openAuthority } from '../../envoy/authority.ts';
import { createClock } from '../../filters/common/time.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'authority-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const leafOf = (pem: string): X509Certificate => new X509Certificate(pem);

test('the authority stays the same when it is opened again, and its key is its owner’s alone', async () => {
  const first = await openAuthority(dir, createClock());
  const second = await openAuthority(dir, createClock());
  expect(second.caPem).toBe(first.caPem);
  expect(statSync(join(dir, 'authority.pem')).mode & 0o777).toBe(0o600);
  const ca = new X509Certificate(first.caPem);
  expect(ca.ca).toBe(true);
  expect(leafOf((await second.mint('a.test')).certificatePem).verify(ca.publicKey)).toBe(true);
});

test('a certificate proves exactly the host that it was minted for', async () => {
  const authority = await openAuthority(dir, createClock());
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
  const authority = await openAuthority(dir, createClock());
  const minted = await Promise.all(Array.from({ length: 200 }, () => authority.mint('a.test')));
  expect(new Set(minted.map((one) => one.certificatePem)).size).toBe(1);
  expect(authority.size()).toBe(1);
});

test('the cache is bounded', async () => {
  const authority = await openAuthority(dir, createClock());
  for (let i = 0; i < limits.certificateCacheMax + 20; i++) await authority.mint(`h${i}.test`);
  expect(authority.size()).toBe(limits.certificateCacheMax);
});

test('a certificate is renewed before it ends, and not earlier', async () => {
  let now = Date.parse('2030-01-01');
  const authority = await openAuthority(
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
  const authority = await openAuthority(dir, createClock());
  const count = limits.certificateMintsConcurrentMax + limits.certificateMintsWaitingMax + 5;
  const outcomes = await Promise.allSettled(
    Array.from({ length: count }, (_, i) => authority.mint(`h${i}.test`)),
  );
  const refused = outcomes.filter((one) => one.status === 'rejected');
  expect(refused.length).toBe(5);
  expect(refused[0]).toMatchObject({ reason: { code: 'Overloaded' } });
});

test('a damaged file is an error that names it, and is never replaced', async () => {
  await openAuthority(dir, createClock());
  const file = join(dir, 'authority.pem');
  const whole = readFileSync(file, 'utf8');
  await openAuthority(join(dir, 'other'), createClock());
  const other = readFileSync(join(dir, 'other', 'authority.pem'), 'utf8');
  const certificate = whole.slice(whole.indexOf('-----BEGIN CERTIFICATE'));
  const damaged = [
    '',
    'garbage',
    whole.slice(0, 100),
    certificate,
    whole.replace(/[A-Za-z0-9+/]{20}\n-----END PRIVATE/, `${'A'.repeat(20)}\n-----END PRIVATE`),
    other.slice(0, other.indexOf('-----BEGIN CERTIFICATE')) + certificate,
  ];
  for (const text of damaged) {
    writeFileSync(file, text);
    await expect(openAuthority(dir, createClock())).rejects.toMatchObject({
      code: 'StateUnavailable',
      message: expect.stringContaining(file),
    });
    expect(readFileSync(file, 'utf8')).toBe(text);
  }
  chmodSync(file, 0o600);
});

test('an authority that has ended is an error, not a new one', async () => {
  let now = Date.parse('2030-01-01');
  await openAuthority(
    dir,
    createClock(() => now),
  );
  now += limits.authorityLifetimeMs + 1;
  await expect(
    openAuthority(
      dir,
      createClock(() => now),
    ),
  ).rejects.toMatchObject({ code: 'StateUnavailable' });
});
