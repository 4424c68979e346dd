/**
 * Signed notes and the keys that sign them (C2SP signed-note v1, tlog-cosignature), and checkpoints (C2SP
 * tlog-checkpoint v1). Bytes of somebody else are read here: malformed is an error, never a guess.
 *
 *   origin\n size\n base64(root)\n [extension lines\n] \n — name base64(key ID ‖ signature)\n …
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';

/** Signature type identifier bytes (signed-note, "Signature types"). */
export const noteTypes = { ed25519: 0x01, cosignatureEd25519: 0x04, cosignatureMlDsa44: 0x06 } as const;
export type NoteType = (typeof noteTypes)[keyof typeof noteTypes];

const publicKeyBytes: Readonly<Record<NoteType, number>> = { 1: 32, 4: 32, 6: 1312 };
const signatureBytes: Readonly<Record<NoteType, number>> = { 1: 64, 4: 8 + 64, 6: 8 + 2420 };

export type NoteKey = Readonly<{
  name: string;
  /** Eight lower-case hex digits. */
  id: string;
  type: NoteType;
  publicKey: KeyObject;
}>;

/** `raw` is base64(key ID ‖ signature), decoded. */
export type NoteSignature = Readonly<{ name: string; id: string; signature: Buffer; line: string }>;
export type Note = Readonly<{ body: string; signatures: readonly NoteSignature[] }>;

export type Checkpoint = Readonly<{ origin: string; size: number; root: Buffer }>;

const malformed = (what: string): SallyportError => new SallyportError('RequestMalformed', what);

/** Canonical base64 only (RFC 4648, section 4): one text for one value. */
export function fromBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** Non-empty, no Unicode space, no plus (signed-note, "Format"); no control character either. */
export const isKeyName = (name: string): boolean =>
  name !== '' && Buffer.byteLength(name) <= limits.noteKeyNameBytesMax && !/[\s\p{Z}\p{Cc}+]/u.test(name);

export const keyIdOf = (name: string, type: NoteType, raw: Uint8Array): string =>
  createHash('sha256').update(`${name}\n`).update(Uint8Array.of(type)).update(raw).digest('hex').slice(0, 8);

export const rawPublicKey = (key: KeyObject): Buffer => key.export({ format: 'raw-public' });

export function noteKey(name: string, type: NoteType, publicKey: KeyObject): NoteKey {
  if (!isKeyName(name))
    throw malformed(
      `a key's name has 1 to ${limits.noteKeyNameBytesMax} bytes without space and plus, not ${JSON.stringify(name.slice(0, 80))}`,
    );
  return { name, id: keyIdOf(name, type, rawPublicKey(publicKey)), type, publicKey };
}

/** `name+hex(key ID)+base64(type ‖ public key)` (signed-note, "Verifier keys"). */
export const vkeyOf = (key: NoteKey): string =>
  `${key.name}+${key.id}+${Buffer.concat([Uint8Array.of(key.type), rawPublicKey(key.publicKey)]).toString('base64')}`;

const isType = (byte: number | undefined): byte is NoteType => byte === 1 || byte === 4 || byte === 6;

export function parseVkey(vkey: string): NoteKey {
  const shown = JSON.stringify(vkey.slice(0, 80));
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,2000})$/.exec(vkey);
  if (match === null) throw malformed(`a verifier key is name+8 hex digits+base64, not ${shown}`);
  const [, name = '', id = '', encoded = ''] = match;
  const bytes = fromBase64(encoded);
  const type = bytes?.[0];
  if (bytes === undefined || !isType(type))
    throw malformed(`${shown} is of no known type: 0x01 and 0x04 are Ed25519, 0x06 is ML-DSA-44`);
  const raw = bytes.subarray(1);
  if (raw.length !== publicKeyBytes[type])
    throw malformed(`the public key of ${shown} has ${raw.length} bytes, not ${publicKeyBytes[type]}`);
  const key = noteKey(name, type, importRaw(type, raw, shown));
  if (key.id !== id) throw malformed(`the id of ${shown} is not that of its name and key, ${key.id}`);
  return key;
}

function importRaw(type: NoteType, raw: Buffer, shown: string): KeyObject {
  try {
    return createPublicKey({
      key: raw,
      format: 'raw-public',
      asymmetricKeyType: type === noteTypes.cosignatureMlDsa44 ? 'ml-dsa-44' : 'ed25519',
    });
  } catch (cause) {
    throw new SallyportError('RequestMalformed', `the public key of ${shown} is no public key`, { cause });
  }
}

export const signatureLine = (name: string, id: string, signature: Uint8Array): string =>
  `— ${name} ${Buffer.concat([Buffer.from(id, 'hex'), signature]).toString('base64')}\n`;

/** One line without its line feed. */
export function parseSignatureLine(line: string): NoteSignature {
  const match = /^— (\S+) ([A-Za-z0-9+/=]+)$/u.exec(line);
  const raw = fromBase64(match?.[2] ?? '');
  const name = match?.[1] ?? '';
  if (raw === undefined || raw.length < 5 || !isKeyName(name))
    throw malformed('a signature line is malformed');
  return { name, id: raw.toString('hex', 0, 4), signature: raw.subarray(4), line: `${line}\n` };
}

export function parseNote(text: string): Note {
  if (Buffer.byteLength(text) > limits.noteBytesMax)
    throw malformed(`a signed note has at most ${limits.noteBytesMax} bytes, not ${Buffer.byteLength(text)}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: signed-note forbids exactly these
  if (/[\u0000-\u0009\u000b-\u001f]/.test(text) || !text.isWellFormed())
    throw malformed('a signed note holds no control character but line feeds');
  const cut = text.lastIndexOf('\n\n');
  if (cut < 1 || !text.endsWith('\n') || cut + 2 >= text.length)
    throw malformed('a signed note is a text, an empty line, and signature lines');
  const lines = text.slice(cut + 2, -1).split('\n');
  if (lines.length > limits.noteSignaturesMax)
    throw malformed(`a signed note has at most ${limits.noteSignaturesMax} signatures, not ${lines.length}`);
  return { body: text.slice(0, cut + 1), signatures: lines.map(parseSignatureLine) };
}

/** The text of a checkpoint; extension lines are read over (tlog-checkpoint, "Note text"). */
export function parseCheckpoint(body: string): Checkpoint {
  const [origin = '', size = '', root = '', ...extensions] = body.slice(0, -1).split('\n');
  const hash = fromBase64(root);
  if (
    origin === '' ||
    Buffer.byteLength(origin) > limits.noteKeyNameBytesMax ||
    !/^(0|[1-9]\d{0,15})$/.test(size) ||
    !Number.isSafeInteger(Number(size)) ||
    hash?.length !== 32 ||
    extensions.includes('')
  )
    throw malformed('a checkpoint is an origin, a size and a root hash, a line each');
  return { origin, size: Number(size), root: hash };
}

export const checkpointBody = ({ origin, size, root }: Checkpoint): string =>
  `${origin}\n${size}\n${root.toString('base64')}\n`;

const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};

const short = (text: string): Buffer => {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length < 1 || bytes.length > 255)
    throw malformed(`a name in a cosignature has 1 to 255 bytes, not ${bytes.length}`);
  return Buffer.concat([Uint8Array.of(bytes.length), bytes]);
};

/** What a key of this type signs, of this note at this time (tlog-cosignature, "signed message"). */
export function signedMessage(key: Pick<NoteKey, 'name' | 'type'>, body: string, timestampS: number): Buffer {
  switch (key.type) {
    case noteTypes.ed25519:
      return Buffer.from(body, 'utf8');
    case noteTypes.cosignatureEd25519:
      return Buffer.from(`cosignature/v1\ntime ${timestampS}\n${body}`, 'utf8');
    case noteTypes.cosignatureMlDsa44: {
      const { origin, size, root } = parseCheckpoint(body);
      return Buffer.concat([
        Buffer.from('subtree/v1\n\0', 'latin1'),
        ...[short(key.name), u64(timestampS), short(origin), u64(0), u64(size), root],
      ]);
    }
  }
}

/** The time that the signature states, in seconds, where its type states one. */
export function timestampOf(key: NoteKey, signature: Buffer): number {
  if (key.type === noteTypes.ed25519) return 0;
  const seconds = signature.readBigUInt64BE(0);
  return seconds > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(seconds);
}

export function verifySignature(key: NoteKey, body: string, { signature }: NoteSignature): boolean {
  if (signature.length !== signatureBytes[key.type]) return false;
  const timestampS = timestampOf(key, signature);
  if (!Number.isFinite(timestampS)) return false;
  const bare = key.type === noteTypes.ed25519 ? signature : signature.subarray(8);
  return verify(null, signedMessage(key, body, timestampS), key.publicKey, bare);
}

export type Verified = Readonly<{ key: NoteKey; signature: NoteSignature }>;

/**
 * The signatures of the keys that are trusted, one of each: a line may be there a hundred times, and is verified
 * once. Others are ignored; one that names a trusted key and does not verify makes the whole note malformed
 * (signed-note, "Signatures"). Undefined for such a note.
 */
export function verifyNote(note: Note, trusted: readonly NoteKey[]): readonly Verified[] | undefined {
  const verified = new Map<NoteKey, Verified>();
  for (const signature of note.signatures) {
    const key = trusted.find(({ name, id }) => name === signature.name && id === signature.id);
    if (key === undefined) continue;
    const first = verified.get(key);
    if (first?.signature.line === signature.line) continue;
    if (!verifySignature(key, note.body, signature)) return undefined;
    if (first === undefined) verified.set(key, { key, signature });
  }
  return [...verified.values()];
}
