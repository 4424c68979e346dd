import 'reflect-metadata';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as library from '@peculiar/x509';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { subjectOf, writeAuthority, writeLeaf } from '../../envoy/x509.ts';

const newKeys = () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const keys = newKeys();
const leafKeys = newKeys();
const life = {
  notBeforeMs: Date.parse('2026-11-21T10:00:00Z'),
  notAfterMs: Date.parse('2031-11-21T10:00:01Z'),
};
const authorityPem = await writeAuthority('Sallyport 00ff', keys, life);
const authority = new X509Certificate(authorityPem);
const issuer = { certificate: authority.raw, ...keys };
const write = (host: string, within = life): Promise<string> =>
  writeLeaf(host, leafKeys.publicKey, issuer, within);
const leafOf = async (host: string, within = life) => new X509Certificate(await write(host, within));

const spki = (key: typeof keys): Buffer => key.publicKey.export({ type: 'spki', format: 'der' });
const webKey = ({ publicKey }: typeof keys) =>
  publicKey.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify']);
const hex = (extension: library.Extension): string => Buffer.from(extension.rawData).toString('hex');
const { keyCertSign, cRLSign, digitalSignature } = library.KeyUsageFlags;

test('an authority is what an independent writer makes of the same fields, extension by extension', async () => {
  const read = new library.X509Certificate(authorityPem);
  expect(read.subject).toBe('CN=Sallyport 00ff');
  expect(read.issuer).toBe(read.subject);
  expect([read.notBefore.getTime(), read.notAfter.getTime()]).toEqual([life.notBeforeMs, life.notAfterMs]);
  expect(Buffer.from(read.publicKey.rawData)).toEqual(spki(keys));
  expect(read.signatureAlgorithm).toMatchObject({ name: 'ECDSA', hash: { name: 'SHA-256' } });
  expect(read.extensions.map(hex)).toEqual(
    [
      new library.BasicConstraintsExtension(true, 0, true),
      new library.KeyUsagesExtension(keyCertSign | cRLSign, true),
      await library.SubjectKeyIdentifierExtension.create(webKey(keys)),
    ].map(hex),
  );
  expect(await read.isSelfSigned()).toBe(true);
});

test('a leaf is what an independent writer makes of the same fields, extension by extension', async () => {
  for (const [host, type] of [
    ['a.test', 'dns'],
    [`${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`, 'dns'],
    ['under_score.a.test', 'dns'],
    ['127.0.0.1', 'ip'],
    ['2001:db8::1', 'ip'],
  ] as const) {
    const read = new library.X509Certificate(await write(host));
    expect(read.subject).toBe(`CN=${host.slice(0, 64)}`);
    expect(read.issuer).toBe('CN=Sallyport 00ff');
    expect(Buffer.from(read.publicKey.rawData)).toEqual(spki(leafKeys));
    expect(read.extensions.map(hex)).toEqual(
      [
        new library.BasicConstraintsExtension(false, undefined, true),
        new library.KeyUsagesExtension(digitalSignature, true),
        new library.ExtendedKeyUsageExtension([library.ExtendedKeyUsage.serverAuth]),
        new library.SubjectAlternativeNameExtension([{ type, value: host }]),
        await library.AuthorityKeyIdentifierExtension.create(webKey(keys)),
      ].map(hex),
    );
    expect(await read.verify({ publicKey: webKey(keys), signatureOnly: true })).toBe(true);
  }
});

test('OpenSSL takes the chain, and for no other authority’s', async () => {
  const leaf = await leafOf('a.test');
  expect(leaf.checkIssued(authority)).toBe(true);
  expect(leaf.verify(keys.publicKey)).toBe(true);
  expect(leaf.verify(leafKeys.publicKey)).toBe(false);
  expect(leaf.checkPrivateKey(leafKeys.privateKey)).toBe(true);
  expect(authority.ca).toBe(true);
  expect(leaf.ca).toBe(false);
});

test('an authority of an earlier release, whose name is written another way, is named as it names itself', async () => {
  const file = readFileSync(join(import.meta.dirname, 'fixtures/plain-authority.pem'), 'utf8');
  const older = new X509Certificate(file.slice(file.indexOf('-----BEGIN CERTIFICATE')));
  const pem = await writeLeaf('a.test', leafKeys.publicKey, { ...keys, certificate: older.raw }, life);
  const leaf = new X509Certificate(pem);
  expect(subjectOf(older.raw).includes('Sallyport')).toBe(true);
  expect(leaf.raw.includes(subjectOf(older.raw))).toBe(true);
  expect(leaf.issuer).toBe(older.subject);
});

test('every name, address and time is read back as it was written', async () => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/);
  const name = fc.array(label, { minLength: 2, maxLength: 5 }).map((labels) => [...labels, 'test'].join('.'));
  const host = fc.oneof(name, fc.ipV4(), fc.ipV6());
  // To the second; from 2050 on times are written in another form.
  const second = fc.integer({ min: Date.parse('2000-01-01') / 1000, max: Date.parse('2099-01-01') / 1000 });
  await fc.assert(
    fc.asyncProperty(host, second, second, async (value, from, to) => {
      const within = { notBeforeMs: from * 1000, notAfterMs: to * 1000 };
      const leaf = await leafOf(value, within);
      expect(leaf.checkHost(value) ?? leaf.checkIP(value)).toBe(value);
      expect(leaf.validFromDate.getTime()).toBe(within.notBeforeMs);
      expect(leaf.validToDate.getTime()).toBe(within.notAfterMs);
      expect(leaf.serialNumber).toMatch(/^[4-7][0-9A-F]{31}$/);
    }),
    { numRuns: 100 },
  );
});

test('two certificates never have one serial number', async () => {
  const serials = await Promise.all(
    Array.from({ length: 50 }, async () => (await leafOf('a.test')).serialNumber),
  );
  expect(new Set(serials).size).toBe(50);
});

test('a host that is no canonical name is refused, not written as another one', async () => {
  for (const host of ['', 'bücher.test', 'a test', 'a\u0000.test', 'ａ.test'])
    await expect(write(host)).rejects.toThrow('not a canonical host name');
});

test('what is cut off or is no certificate is refused, whatever its bytes', () => {
  const whole = authority.raw;
  for (let length = 0; length < whole.length; length += 1)
    expect(() => subjectOf(whole.subarray(0, length))).toThrow(RangeError);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      try {
        subjectOf(Buffer.from(bytes));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RangeError);
      }
    }),
    { numRuns: 2_000 },
  );
});
