/**
 * Writes X.509 certificates, which Node can read but not write: version 3, P-256, ECDSA with SHA-256. In DER
 * (X.690) each value is tag, length, content. Sections named here are of RFC 5280.
 */
import { hash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';
import { promisify } from 'node:util';
import ipaddr from 'ipaddr.js';

const signInPool = promisify(
  (data: Buffer, key: KeyObject, done: (error: Error | null, signature: Buffer) => void) =>
    // ECDSA-Sig-Value in DER is what a certificate holds (RFC 3279, 2.2.3).
    sign('sha256', data, { key, dsaEncoding: 'der' }, done),
);

function der(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  const { length } = body;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  if (length > 0xffff)
    throw new RangeError(`a value of ${length} bytes is longer than a certificate's can be`);
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

const bytes = (...values: readonly number[]): Buffer => Buffer.from(values);
const sequence = (...content: readonly Uint8Array[]): Buffer => der(0x30, ...content);
const integer = (value: Uint8Array): Buffer => der(0x02, value);
const bits = (unused: number, content: Uint8Array): Buffer => der(0x03, bytes(unused), content);
const octets = (content: Uint8Array): Buffer => der(0x04, content);
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
const yes = der(0x01, bytes(0xff));

/** `ecdsa-with-SHA256`, without parameters (RFC 5758, 3.2). */
const algorithm = sequence(oid('2a8648ce3d040302'));
const version3 = der(0xa0, integer(bytes(2)));
const commonName = oid('550403');
const serverAuth = oid('2b06010505070301');

/** 4.1.2.2: at most 20 octets, positive; the first octet is never zero, so that none has to go. */
function serialNumber(): Buffer {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return integer(serial);
}

/** 4.1.2.4, and A.1 for the length. */
const nameOf = (text: string): Buffer =>
  sequence(der(0x31, sequence(commonName, der(0x0c, Buffer.from(text.slice(0, 64))))));

/** 4.1.2.5: UTCTime through the year 2049, GeneralizedTime from then on. */
function time(ms: number): Buffer {
  const text = `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
  return Number(text.slice(0, 4)) < 2050
    ? der(0x17, Buffer.from(text.slice(2)))
    : der(0x18, Buffer.from(text));
}

const extension = (id: string, isCritical: boolean, value: Uint8Array): Buffer =>
  sequence(oid(id), ...(isCritical ? [yes] : []), octets(value));

/** 4.2.1.2, method 1: of the bit string in `SubjectPublicKeyInfo`, without the octet that counts its unused bits. */
function identifierOf(spki: Buffer): Buffer {
  const { content } = valueAt(spki, 0);
  return hash('sha1', valueAt(content, valueAt(content, 0).end).content.subarray(1), 'buffer');
}

/** 4.2.1.6 */
function alternativeName(host: string): Buffer {
  if (isIP(host) !== 0) return der(0x87, bytes(...ipaddr.parse(host).toByteArray()));
  // IA5String; a canonical name is ASCII, and another letter must not become one.
  if (!/^[!-~]+$/.test(host)) throw new TypeError(`${JSON.stringify(host)} is not a canonical host name`);
  return der(0x82, Buffer.from(host));
}

type Life = Readonly<{ notBeforeMs: number; notAfterMs: number }>;

async function certificate(
  parts: Readonly<{
    issuer: Buffer;
    subject: Buffer;
    spki: Buffer;
    life: Life;
    extensions: readonly Buffer[];
  }>,
  signingKey: KeyObject,
): Promise<string> {
  const { issuer, subject, spki, life, extensions } = parts;
  const validity = sequence(time(life.notBeforeMs), time(life.notAfterMs));
  const signed = sequence(
    version3,
    serialNumber(),
    algorithm,
    issuer,
    validity,
    subject,
    spki,
    der(0xa3, sequence(...extensions)),
  );
  const signature = await signInPool(signed, signingKey);
  return pemOf(sequence(signed, algorithm, bits(0, signature)));
}

/** RFC 7468, section 5. */
const pemOf = (certificate: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64').replaceAll(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`;

const spkiOf = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });

export type Pair = Readonly<{ publicKey: KeyObject; privateKey: KeyObject }>;

/** An authority that signs leaves only. */
export function writeAuthority(name: string, keys: Pair, life: Life): Promise<string> {
  const spki = spkiOf(keys.publicKey);
  const subject = nameOf(name);
  const extensions = [
    // 4.2.1.9: an authority, and none below it.
    extension('551d13', true, sequence(yes, integer(bytes(0)))),
    // 4.2.1.3: keyCertSign and cRLSign.
    extension('551d0f', true, bits(1, bytes(0x06))),
    extension('551d0e', false, octets(identifierOf(spki))),
  ];
  return certificate({ issuer: subject, subject, spki, life, extensions }, keys.privateKey);
}

export type Issuer = Readonly<{ certificate: Buffer; publicKey: KeyObject; privateKey: KeyObject }>;

/** A server's certificate for one host or address. */
export async function writeLeaf(
  host: string,
  publicKey: KeyObject,
  issuer: Issuer,
  life: Life,
): Promise<string> {
  const extensions = [
    extension('551d13', true, sequence()),
    // 4.2.1.3: digitalSignature.
    extension('551d0f', true, bits(7, bytes(0x80))),
    extension('551d25', false, sequence(serverAuth)),
    extension('551d11', false, sequence(alternativeName(host))),
    // 4.2.1.1: the key identifier alone.
    extension('551d23', false, sequence(der(0x80, identifierOf(spkiOf(issuer.publicKey))))),
  ];
  const parts = {
    issuer: subjectOf(issuer.certificate),
    // The name that counts is the alternative one; a common name is cut at 64 letters.
    subject: nameOf(host),
    ...{ spki: spkiOf(publicKey), life, extensions },
  };
  return certificate(parts, issuer.privateKey);
}

/** Octet for octet: a verifier compares issuer and subject, whichever way their text was written. */
export function subjectOf(certificate: Buffer): Buffer {
  const signed = valueAt(valueAt(certificate, 0).content, 0).content;
  let at = 0;
  // version, serialNumber, signature, issuer, validity
  for (let before = 0; before < 5; before += 1) at = valueAt(signed, at).end;
  return signed.subarray(at, valueAt(signed, at).end);
}

function valueAt(buffer: Buffer, at: number): Readonly<{ content: Buffer; end: number }> {
  const first = buffer[at + 1] ?? 0x80;
  const sizeOctets = first < 0x80 ? 0 : first & 0x7f;
  if (first >= 0x80 && (sizeOctets < 1 || sizeOctets > 2))
    throw new RangeError('no DER value of a certificate');
  const begin = at + 2 + sizeOctets;
  if (begin > buffer.length) throw new RangeError('a DER value is cut off');
  const length = sizeOctets === 0 ? first : buffer.readUIntBE(at + 2, sizeOctets);
  const end = begin + length;
  if (end > buffer.length) throw new RangeError('a DER value is cut off');
  return { content: buffer.subarray(begin, end), end };
}
