/**
 * The authority that signs the certificates shown inside intercepted connections. Its key never leaves this
 * folder's file (0600); it stays the same over restarts, since Envoy keeps leaves that the last run signed.
 */
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { LRUCache } from 'lru-cache';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Authority, Minted } from './data-plane.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
/** Clients' clocks may be behind ours. */
const backdateMs = 60 * 60 * 1000;

type Pair = Readonly<{ certificate: x509.X509Certificate; keys: webcrypto.CryptoKeyPair }>;

x509.cryptoProvider.set(webcrypto);

/** 127 random bits, positive and without a leading zero byte (RFC 5280, section 4.1.2.2: at most 20 octets). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

const keyPem = async (key: webcrypto.CryptoKey): Promise<string> =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');

const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);

async function create(clock: Clock): Promise<Pair> {
  const keys = await newKeys();
  const now = clock.wallMs();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=Sallyport ${randomBytes(4).toString('hex')}`,
    notBefore: new Date(now - backdateMs),
    notAfter: new Date(now + limits.authorityLifetimeMs),
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate, keys };
}

/** One file holds key and certificate, so that no crash leaves one without the other. */
async function store(file: string, text: string, mode: number): Promise<void> {
  const temporary = `${file}.new`;
  const handle = await open(temporary, 'w', mode);
  try {
    await handle.chmod(mode);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}

function unusable(file: string, why: string, cause?: unknown): SallyportError {
  return new SallyportError(
    'StateUnavailable',
    `${file} is not a usable certificate authority: ${why}. Restore it from a backup, or remove it to make a new one that agents must then trust`,
    { cause },
  );
}

const block = (text: string, label: string): string | undefined =>
  new RegExp(`-----BEGIN ${label}-----[\\s\\S]+?-----END ${label}-----`).exec(text)?.[0];

async function load(file: string, text: string, clock: Clock): Promise<Pair> {
  const keyText = block(text, 'PRIVATE KEY');
  const certificateText = block(text, 'CERTIFICATE');
  if (keyText === undefined || certificateText === undefined)
    throw unusable(file, 'it does not hold one private key and one certificate in PEM');
  const pair = await read(keyText, certificateText).catch((cause: unknown) => {
    throw unusable(file, 'its key or certificate cannot be read', cause);
  });
  const probe = randomBytes(32);
  const signature = await webcrypto.subtle.sign(algorithm, pair.keys.privateKey, probe);
  if (!(await webcrypto.subtle.verify(algorithm, pair.keys.publicKey, signature, probe)))
    throw unusable(file, 'its key does not belong to its certificate');
  const constraints = pair.certificate.getExtension(x509.BasicConstraintsExtension);
  if (constraints?.ca !== true) throw unusable(file, 'its certificate is not one of an authority');
  if (pair.certificate.notAfter.getTime() <= clock.wallMs())
    throw unusable(file, `it ended at ${pair.certificate.notAfter.toISOString()}`);
  return pair;
}

async function read(keyText: string, certificateText: string): Promise<Pair> {
  const certificate = new x509.X509Certificate(certificateText);
  const privateKey = await webcrypto.subtle.importKey(
    'pkcs8',
    x509.PemConverter.decodeFirst(keyText),
    algorithm,
    true,
    ['sign'],
  );
  const publicKey = await webcrypto.subtle.importKey('spki', certificate.publicKey.rawData, algorithm, true, [
    'verify',
  ]);
  return { certificate, keys: { privateKey, publicKey } };
}

/** Undefined where the file is not there; any other failure is an error, never a reason to make a new authority. */
async function existing(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
    throw unusable(file, 'it cannot be read', thrown);
  }
}

async function openPair(dir: string, clock: Clock): Promise<Pair> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const file = join(dir, 'authority.pem');
  const text = await existing(file);
  const pair = text === undefined ? await create(clock) : await load(file, text, clock);
  if (text === undefined)
    await store(file, `${await keyPem(pair.keys.privateKey)}\n${pair.certificate.toString('pem')}\n`, 0o600);
  return pair;
}

/** Opens the authority kept in `dir`, or makes it at the first start. */
export async function openAuthority(dir: string, clock: Clock): Promise<Authority> {
  const { certificate, keys } = await openPair(dir, clock);
  const caPem = `${certificate.toString('pem')}\n`;
  // One key for every leaf: making one costs more than signing, and all of them live in the same process.
  const leaf = await newKeys();
  const privateKeyPem = await keyPem(leaf.privateKey);
  const keyIdentifier = await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey);
  const cache = new LRUCache<string, Minted>({ max: limits.certificateCacheMax });
  const pending = new Map<string, Promise<Minted>>();
  const waiting: (() => void)[] = [];
  let running = 0;

  const sign = async (host: string): Promise<Minted> => {
    const now = clock.wallMs();
    const notAfterMs = Math.min(now + limits.certificateLifetimeMs, certificate.notAfter.getTime());
    const leafCertificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      // The name is in the subject alternative name; a common name longer than 64 is not allowed (RFC 5280, A.1).
      subject: [{ CN: [host.slice(0, 64)] }],
      issuer: certificate.subject,
      notBefore: new Date(now - backdateMs),
      notAfter: new Date(notAfterMs),
      signingKey: keys.privateKey,
      publicKey: leaf.publicKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension([{ type: isIP(host) === 0 ? 'dns' : 'ip', value: host }]),
        keyIdentifier,
      ],
    });
    return { certificatePem: `${leafCertificate.toString('pem')}\n${caPem}`, privateKeyPem, notAfterMs };
  };

  const turn = async (host: string): Promise<void> => {
    if (running < limits.certificateMintsConcurrentMax) {
      running += 1;
      return;
    }
    if (waiting.length >= limits.certificateMintsWaitingMax)
      throw new SallyportError(
        'Overloaded',
        `A certificate for ${host} has to wait: ${waiting.length} others do, the limit is ${limits.certificateMintsWaitingMax}`,
      );
    await new Promise<void>((resolve) => waiting.push(resolve));
  };
  const pass = (): void => {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  };

  const mintNew = async (host: string): Promise<Minted> => {
    await turn(host);
    try {
      const minted = await sign(host);
      cache.set(host, minted);
      return minted;
    } finally {
      pass();
    }
  };

  return {
    caPem,
    mint: (host) => {
      const known = cache.get(host);
      if (known !== undefined && known.notAfterMs - clock.wallMs() > limits.certificateRenewBeforeMs)
        return Promise.resolve(known);
      const already = pending.get(host);
      if (already !== undefined) return already;
      const minting = mintNew(host).finally(() => pending.delete(host));
      pending.set(host, minting);
      return minting;
    },
    size: () => cache.size,
  };
}
