// Checks a Sallyport audit log without any of Sallyport's code; needs Node 24.6 or later (ML-DSA) and nothing else.
// After RFC 6962 (hashes) and C2SP tlog-tiles, tlog-checkpoint, signed-note, tlog-cosignature.
import { ok as must } from 'node:assert/strict';
import crypto from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const usage = `usage: node verify.mjs LOG --keys FILE [options]
  LOG               directory of the log: checkpoint and tile/ are in it
  --keys FILE       verifier keys of the log (vkeys), a line each, from where you trust them
  --old FILE        an earlier checkpoint, kept elsewhere: the log has to have grown out of it
  --size N          leaves that the log has at least
  --witnesses FILE  verifier keys of witnesses; --quorum K of them, by name, have cosigned checkpoint.witnessed
  --journal DIR     the journal: each of its lines has to be what a leaf commits to
  --pruned N        leaves below N may be gone
exit status: 0 all is well, 1 the log is wrong, 2 nothing was checked`;
const end = (status, text) => process.exit(console[status === 0 ? 'log' : 'error'](text) ?? status);
const unchecked = (why) => end(2, `not checked: ${why}`);
process.on('uncaughtException', ({ message }) => unchecked(`${message}\n${usage}`));
const names = ['keys', 'old', 'size', 'witnesses', 'quorum', 'journal', 'pruned'];
const texts = Object.fromEntries(names.map((name) => [name, { type: 'string' }]));
const parsed = parseArgs({ options: { ...texts, help: { type: 'boolean' } }, allowPositionals: true });
const [option, [log]] = [parsed.values, parsed.positionals];
if (option.help) end(0, usage);
if (log === undefined || option.keys === undefined) unchecked(`LOG and --keys are needed\n${usage}`);
const pruned = Number(option.pruned ?? 0);
for (const name of ['size', 'quorum', 'pruned'])
  if (!/^\d{1,15}$/.test(option[name] ?? '0')) unchecked(`--${name} ${option[name]} is no whole number`);
if (process.version.localeCompare('v24.6', 'en', { numeric: true }) < 0)
  unchecked(`Node ${process.version} has no ML-DSA in node:crypto; run this with Node 24.6 or later`);

const sha256 = (...parts) => crypto.hash('sha256', Buffer.concat(parts), 'buffer');
const node = (left, right) => sha256(Buffer.of(1), left, right);
const base64 = (encoded) => Buffer.from(encoded, 'base64');

const algorithms = { 1: 'ed25519', 4: 'ed25519', 6: 'ml-dsa-44' };
/** What is before the bytes of a key in its SubjectPublicKeyInfo (RFC 8410, RFC 9881). */
const spki = { ed25519: 'MCowBQYDK2VwAyEA', 'ml-dsa-44': 'MIIFMjALBglghkgBZQMEAxEDggUhAA==' };

function readKeys(file) {
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.flatMap((line) => {
    const [, name, id, encoded] = /^([^+#\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(line.trim()) ?? [];
    if (encoded === undefined) return [];
    const key = base64(encoded);
    must(sha256(Buffer.from(`${name}\n`), key).toString('hex', 0, 4) === id, `${name}+${id} is another key`);
    const der = Buffer.concat([base64(spki[algorithms[key[0]]] ?? ''), key.subarray(1)]);
    const read = crypto.createPublicKey({ key: der, format: 'der', type: 'spki' });
    return [{ name, id, type: key[0], public: read }];
  });
}

function readCheckpoint(file) {
  const note = readFileSync(file, 'utf8');
  const cut = note.lastIndexOf('\n\n') + 1;
  const body = note.slice(0, cut);
  const [origin, size, root] = body.split('\n');
  must(/^(0|[1-9]\d{0,15})$/.test(size) && base64(root).length === 32, `${file} is no checkpoint`);
  const lines = note.slice(cut + 1, -1).split('\n');
  return { file, body, lines, origin, size: Number(size), root: base64(root) };
}

/** What a key of this type signs (tlog-cosignature): the text, or what it says, with a time. */
function signedMessage({ name, type }, { body, origin, size, root }, time) {
  if (type === 1) return Buffer.from(body);
  if (type === 4) return Buffer.from(`cosignature/v1\ntime ${time.readBigUInt64BE()}\n${body}`);
  const short = (word) => Buffer.concat([Buffer.of(Buffer.byteLength(word)), Buffer.from(word)]);
  const range = Buffer.from(BigInt(size).toString(16).padStart(32, '0'), 'hex');
  return Buffer.concat([Buffer.from('subtree/v1\n\0'), short(name), time, short(origin), range, root]);
}

/** The known keys that signed. One whose signature does not verify is enough to refuse the checkpoint. */
function signersOf(checkpoint, keys) {
  return checkpoint.lines.flatMap((line) => {
    const [dash, name, encoded = ''] = line.split(' ');
    must(dash === '—', `${checkpoint.file} has a line that is no signature`);
    const [id, rest] = [base64(encoded).toString('hex', 0, 4), base64(encoded).subarray(4)];
    const key = keys.find((one) => one.name === name && one.id === id);
    if (key === undefined) return [];
    const [time, signature] = key.type === 1 ? ['', rest] : [rest.subarray(0, 8), rest.subarray(8)];
    const isGood = crypto.verify(null, signedMessage(key, checkpoint, time), key.public, signature);
    must(isGood, `${checkpoint.file}: the signature of ${name}+${id} does not verify`);
    return [key];
  });
}

function mustBeSigned(checkpoint, keys) {
  const { file, origin } = checkpoint;
  const types = signersOf(checkpoint, keys).map(({ name, type }) => (name === origin ? type : 0));
  for (const type of [1, 6])
    must(types.includes(type), `${file}: no known ${algorithms[type]} key of ${origin} signed it`);
}

const widthOf = (size, level, n) => Math.max(0, Math.min(256, Math.floor(size / 256 ** level) - n * 256));
const isPruned = (level, n) => (n + 1) * 256 ** (level + 1) <= pruned;

function readTile(size, level, n) {
  const width = widthOf(size, level === 'entries' ? 0 : level, n);
  const digits = String(n).padStart(Math.ceil(String(n).length / 3) * 3, '0');
  const full = `${log}/tile/${level}/${digits.replace(/(\d{3})(?=\d)/g, 'x$1/')}`;
  const file = [`${full}.p/${width}`, full].find((path) => existsSync(path));
  must(file !== undefined, `${full} is missing`);
  const bytes = readFileSync(file);
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    const from = level === 'entries' ? at + 2 : at;
    const end = from + (level === 'entries' ? bytes.readUInt16BE(at) : 32);
    must(end <= bytes.length, `${file} is cut`);
    parts.push(bytes.subarray(from, end));
    at = end;
  }
  must(parts.length >= width, `${file} has ${parts.length} of ${width}`);
  return parts.slice(0, width);
}

/** MTH of a list (RFC 6962, section 2.1) of which the last may stand for fewer leaves than the others. */
function fold(hashes) {
  if (hashes.length < 2) return hashes[0] ?? sha256();
  const left = hashes.filter((_, i) => i % 2 === 0);
  return fold(left.map((one, i) => (hashes[2 * i + 1] ? node(one, hashes[2 * i + 1]) : one)));
}

/** The root of the first `leaves`: of each level what no higher one holds, with what is below it as its last. */
function rootOf(size, leaves) {
  let below = [];
  for (let level = 0; 256 ** level <= leaves; level += 1) {
    const width = Math.floor(leaves / 256 ** level) % 256;
    const tile = width === 0 ? [] : readTile(size, level, Math.floor(leaves / 256 ** (level + 1)));
    const row = [...tile.slice(0, width), ...below];
    below = row.length === 0 ? [] : [fold(row)];
  }
  return fold(below);
}

function checkTiles({ size, root }) {
  must(rootOf(size, size).equals(root), 'the tiles do not lead to the root of the checkpoint');
  for (let level = 1; widthOf(size, level, 0) > 0; level += 1)
    for (let n = 0; widthOf(size, level, n) > 0; n += 1)
      for (const [i, above] of (isPruned(level, n) ? [] : readTile(size, level, n)).entries()) {
        const below = n * 256 + i;
        if (isPruned(level - 1, below)) continue;
        must(fold(readTile(size, level - 1, below)).equals(above), `tile ${level - 1}/${below} was changed`);
      }
}

/** Each leaf against its tile, and the numbers of each agent, from 1 without a gap. */
function checkLeaves({ size }) {
  const [numbers, digests, first] = [new Map(), new Set(), Math.floor(pruned / 256)];
  for (let n = first; n * 256 < size; n += 1) {
    const hashes = readTile(size, 0, n);
    for (const [i, entry] of readTile(size, 'entries', n).entries()) {
      const index = n * 256 + i;
      must(sha256(Buffer.of(0), entry).equals(hashes[i]), `leaf ${index} was changed`);
      const { agent, agent_seq: number, digest } = JSON.parse(entry.toString());
      const before = numbers.get(agent) ?? (first > 0 ? number - 1 : 0);
      must(number === before + 1, `leaf ${index} is record ${number} of ${agent}, after ${before}`);
      numbers.set(agent, number);
      if (option.journal !== undefined) digests.add(digest);
    }
  }
  return { agents: numbers.size, digests };
}

/** A line's digest is that of its salt and itself; an erased line holds the leaf that it was. */
function checkJournal(digests) {
  const counts = { whole: 0, erased: 0 };
  for (const file of readdirSync(option.journal).filter((name) => name.endsWith('.jsonl')))
    for (const line of readFileSync(`${option.journal}/${file}`, 'utf8').split('\n').slice(0, -1)) {
      const { salt = '', erased } = JSON.parse(line);
      const own = sha256(Buffer.from(salt, 'base64url'), Buffer.from(line)).toString('base64url');
      const digest = erased === undefined ? own : JSON.parse(erased).digest;
      must(digests.has(digest), `no leaf commits to this line of ${file}: ${line.slice(0, 200)}`);
      counts[erased === undefined ? 'whole' : 'erased'] += 1;
    }
  return `, content: ${counts.whole} lines whole, ${counts.erased} erased`;
}

try {
  const keys = readKeys(option.keys);
  const now = readCheckpoint(`${log}/checkpoint`);
  const old = option.old === undefined ? now : readCheckpoint(option.old);
  const cosigned = option.witnesses !== undefined && existsSync(`${log}/checkpoint.witnessed`);
  const witnessed = cosigned ? readCheckpoint(`${log}/checkpoint.witnessed`) : now;
  for (const checkpoint of [now, old, witnessed]) mustBeSigned(checkpoint, keys);
  const cosigners = option.witnesses === undefined ? [] : signersOf(witnessed, readKeys(option.witnesses));
  const witnesses = new Set(cosigners.map(({ name }) => name)).size;
  must(witnesses >= Number(option.quorum ?? 0), `${witnesses} witnesses cosigned it, not ${option.quorum}`);
  const least = Math.max(old.size, witnessed.size, Number(option.size ?? 0));
  must(now.size >= least, `the log was cut: it has ${now.size} leaves, and had ${least}`);
  checkTiles(now);
  for (const { origin, size, root, file } of [old, witnessed])
    must(origin === now.origin && rootOf(now.size, size).equals(root), `the log did not grow out of ${file}`);
  const { agents, digests } = checkLeaves(now);
  const seen = `${now.size} leaves, ${agents} agents, ${witnesses} witnesses of ${witnessed.size}`;
  end(0, `${now.origin}: ${seen}${option.journal === undefined ? '' : checkJournal(digests)}: all is well`);
} catch (thrown) {
  if (thrown.syscall !== undefined) unchecked(`${thrown.path} cannot be read (${thrown.code})`);
  end(1, `wrong: ${thrown.message}`);
}
