/**
 * The authority that signs the certificates shown inside intercepted connections. Its key is one of the key
 * ring, sealed at rest; it stays the same over restarts, since Envoy keeps leaves that the last run signed.
 */
import { createPrivateKey, generateKeyPair, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { promisify } from 'node:util';
import { LRUCache } from 'lru-cache';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { KeyDraft, KeyEntry, KeyRing, OpenKey } from '../filters/audit/keys.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Authority, Minted } from './data-plane.ts';
import { type Issuer, type Pair, writeAuthority, writeLeaf } from './x509.ts';

/** P-256, as OpenSSL calls it. */
const namedCurve = 'prime256v1';
/** Clients' clocks may be behind ours. */
const backdateMs = 60 * 60 * 1000;

type Signing = Readonly<{ version: number; pem: string; issuer: Issuer; notAfterMs: number }>;

const generate = promisify(generateKeyPair);
const newKeys = (): Promise<Pair> => generate('ec', { namedCurve });

/** A new authority, for the key ring to seal. */
export async function createAuthority(clock: Clock): Promise<readonly KeyDraft[]> {
  const keys = await newKeys();
  const now = clock.wallMs();
  const certificate = await writeAuthority(`Sallyport ${randomBytes(4).toString('hex')}`, keys, {
    notBeforeMs: now - backdateMs,
    notAfterMs: now + limits.authorityLifetimeMs,
  });
  return [draftOf(certificate, keys.privateKey)];
}

const draftOf = (certificate: string, key: KeyObject): KeyDraft => ({
  algorithm: 'ecdsa-p256',
  label: '',
  public: certificate.trimEnd(),
  pkcs8: key.export({ type: 'pkcs8', format: 'der' }),
});

function unusable(where: string, why: string, cause?: unknown): SallyportError {
  return new SallyportError(
    'StateUnavailable',
    `${where} is not a usable certificate authority: ${why}. Restore it from a backup, or make a new one that agents must then trust: sallyport keys rotate authority --now`,
    { cause },
  );
}

type Read = Readonly<{ certificate: X509Certificate; privateKey: KeyObject }>;

/** Key and certificate belong together, and are those of an authority that has not ended. */
function checked(where: string, certificateText: string, toPrivateKey: () => KeyObject, clock: Clock): Read {
  const { certificate, privateKey } = read(where, certificateText, toPrivateKey);
  if (!certificate.checkPrivateKey(privateKey))
    throw unusable(where, 'its key does not belong to its certificate');
  if (!certificate.ca) throw unusable(where, 'its certificate is not one of an authority');
  if (certificate.validToDate.getTime() <= clock.wallMs())
    throw unusable(where, `it ended at ${certificate.validToDate.toISOString()}`);
  return { certificate, privateKey };
}

function read(where: string, certificateText: string, toPrivateKey: () => KeyObject): Read {
  try {
    const certificate = new X509Certificate(certificateText);
    const { asymmetricKeyDetails } = certificate.publicKey;
    if (asymmetricKeyDetails?.namedCurve !== namedCurve) throw new TypeError('its key is not on P-256');
    return { certificate, privateKey: toPrivateKey() };
  } catch (cause) {
    throw unusable(where, 'its key or certificate cannot be read', cause);
  }
}

const checkedOfRing = ({ entry, privateKey }: OpenKey, ring: KeyRing, clock: Clock): Read =>
  checked(`key authority version ${entry.version} in ${ring.file}`, entry.public, () => privateKey, clock);

const block = (text: string, label: string): string | undefined =>
  new RegExp(`-----BEGIN ${label}-----[\\s\\S]+?-----END ${label}-----`).exec(text)?.[0];

/** `authority.pem` of the time before keys were sealed: one private key and one certificate, checked. */
export async function plainAuthority(file: string, text: string, clock: Clock): Promise<KeyDraft> {
  const keyText = block(text, 'PRIVATE KEY');
  const certificateText = block(text, 'CERTIFICATE');
  if (keyText === undefined || certificateText === undefined)
    throw unusable(file, 'it does not hold one private key and one certificate in PEM');
  const { certificate, privateKey } = checked(file, certificateText, () => createPrivateKey(keyText), clock);
  return draftOf(certificate.toString(), privateKey);
}

/** What agents trust now: who signs, who will, and who signed leaves that may still be shown. */
function trusted(entries: readonly KeyEntry[], nowMs: number): string {
  const own = entries.filter(
    ({ name, state, revoked, since_ms: sinceMs }) =>
      name === 'authority' &&
      (state !== 'retired' || (!revoked && nowMs - sinceMs < limits.certificateLifetimeMs)),
  );
  return own.map(({ public: pem }) => `${pem.trim()}\n`).join('');
}

export type LiveAuthority = Authority &
  Readonly<{
    /** Goes by the key ring as it is now: after a rotation, and when one ends. */
    refresh(): Promise<void>;
  }>;

/** The authority of the key ring, made at the first start. */
export async function openAuthority(ring: KeyRing, clock: Clock): Promise<LiveAuthority> {
  await ring.ensure('authority', () => createAuthority(clock));
  const active = (): Signing => {
    const open = ring.open('authority').find(({ entry }) => entry.state === 'active');
    if (open === undefined) throw unusable(ring.file, 'none is active');
    const { certificate, privateKey } = checkedOfRing(open, ring, clock);
    const { raw, publicKey, validToDate } = certificate;
    return {
      version: open.entry.version,
      pem: certificate.toString(),
      issuer: { certificate: raw, publicKey, privateKey },
      notAfterMs: validToDate.getTime(),
    };
  };
  let signing = active();
  // One key for every leaf: making one costs more than signing, and all of them live in the same process.
  const leaf = await newKeys();
  const privateKeyPem = leaf.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const cache = new LRUCache<string, Minted>({ max: limits.certificateCacheMax });
  const pending = new Map<string, Promise<Minted>>();
  const waiting: (() => void)[] = [];
  let running = 0;

  const sign = async (host: string): Promise<Minted> => {
    const { issuer, pem } = signing;
    const now = clock.wallMs();
    const notAfterMs = Math.min(now + limits.certificateLifetimeMs, signing.notAfterMs);
    const certificate = await writeLeaf(host, leaf.publicKey, issuer, {
      notBeforeMs: now - backdateMs,
      notAfterMs,
    });
    return { certificatePem: `${certificate}${pem}`, privateKeyPem, notAfterMs };
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
      const by = signing;
      const minted = await sign(host);
      // One that the authority before signed is given this once.
      if (by === signing) cache.set(host, minted);
      return minted;
    } finally {
      pass();
    }
  };

  return {
    get caPem() {
      return trusted(ring.list(), clock.wallMs());
    },
    epoch: () => signing.version,
    refresh: async () => {
      const next = active();
      if (next.version === signing.version) return;
      signing = next;
      cache.clear();
      pending.clear();
    },
    mint: (host) => {
      const known = cache.get(host);
      if (known !== undefined && known.notAfterMs - clock.wallMs() > limits.certificateRenewBeforeMs)
        return Promise.resolve(known);
      const already = pending.get(host);
      if (already !== undefined) return already;
      const minting = mintNew(host).finally(() => {
        if (pending.get(host) === minting) pending.delete(host);
      });
      pending.set(host, minting);
      return minting;
    },
    size: () => cache.size,
  };
}
