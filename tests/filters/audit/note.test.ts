import { generateKeyPairSync, sign } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import {
  checkpointBody,
  type NoteType,
  noteKey,
  noteTypes,
  parseCheckpoint,
  parseNote,
  parseSignatureLine,
  parseVkey,
  signatureLine,
  signedMessage,
  timestampOf,
  verifyNote,
  vkeyOf,
} from '../../../filters/audit/note.ts';
import { signNote } from '../../../filters/audit/signers.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const body = checkpointBody({ origin: 'log.test/a', size: 7, root: Buffer.alloc(32, 5) });
const make = (type: NoteType, name = 'log.test/a') => {
  const pair =
    type === noteTypes.cosignatureMlDsa44 ? generateKeyPairSync('ml-dsa-44') : generateKeyPairSync('ed25519');
  return { key: noteKey(name, type, pair.publicKey), privateKey: pair.privateKey };
};
const everyType = Object.values(noteTypes);
const note = (text: string, lines: string) => parseNote(`${text}\n${lines}`);

describe('outside vectors', () => {
  test('the example of signed-note verifies with its key', () => {
    const key = parseVkey('example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k');
    const example =
      'This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n';
    expect(verifyNote(parseNote(example), [key])).toHaveLength(1);
    expect(verifyNote(parseNote(example.replace('an example', 'another')), [key])).toBeUndefined();
    expect(vkeyOf(key)).toBe('example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k');
  });

  test('a cosigner’s key of another implementation is read (transparency-dev/formats)', () => {
    const key = parseVkey('remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2');
    expect([key.name, key.id, key.type]).toEqual(['remora.n621.de', 'da77ade7', 4]);
  });
});

describe.each(everyType)('keys of type %i', (type) => {
  test('sign what only they verify', () => {
    const one = make(type);
    const two = make(type);
    const signed = note(body, signNote(one, body, 1_800_000_000));
    expect(verifyNote(signed, [one.key])).toHaveLength(1);
    expect(verifyNote(signed, [two.key])).toEqual([]);
    const other = checkpointBody({ origin: 'log.test/a', size: 8, root: Buffer.alloc(32, 5) });
    expect(verifyNote({ ...signed, body: other }, [one.key])).toBeUndefined();
  });

  test('are read back from their verifier key', () => {
    const { key } = make(type);
    const read = parseVkey(vkeyOf(key));
    expect([read.name, read.id, read.type, read.publicKey.equals(key.publicKey)]).toEqual([
      key.name,
      key.id,
      type,
      true,
    ]);
  });

  test('are not believed for another name, another type, or a changed time', () => {
    const { key, privateKey } = make(type);
    expect(noteKey('log.test/b', type, key.publicKey).id).not.toBe(key.id);
    const line = parseSignatureLine(signNote({ key, privateKey }, body, 1_800_000_000).trimEnd());
    if (type === noteTypes.ed25519) return;
    expect(timestampOf(key, line.signature)).toBe(1_800_000_000);
    const later = Buffer.from(line.signature);
    later.writeUInt8(later.readUInt8(7) ^ 1, 7);
    const moved = note(body, signatureLine(key.name, key.id, later));
    expect(verifyNote(moved, [key])).toBeUndefined();
  });
});

test('a cosignature in Ed25519 signs the words of tlog-cosignature', () => {
  const { key } = make(noteTypes.cosignatureEd25519, 'witness.test/w');
  expect(signedMessage(key, body, 1_679_315_147).toString()).toBe(`cosignature/v1\ntime 1679315147\n${body}`);
});

test('a cosignature in ML-DSA-44 signs the structure of tlog-cosignature, byte for byte', () => {
  const { key, privateKey } = make(noteTypes.cosignatureMlDsa44, 'w.test');
  const expected = Buffer.concat([
    Buffer.from('737562747265652f76310a00', 'hex'),
    Buffer.from([6]),
    Buffer.from('w.test'),
    Buffer.from('000000006b49d200', 'hex'),
    Buffer.from([10]),
    Buffer.from('log.test/a'),
    Buffer.from('0000000000000000', 'hex'),
    Buffer.from('0000000000000007', 'hex'),
    Buffer.alloc(32, 5),
  ]);
  expect(signedMessage(key, body, 1_800_000_000).equals(expected)).toBe(true);
  const time = Buffer.from('000000006b49d200', 'hex');
  const line = signatureLine(key.name, key.id, Buffer.concat([time, sign(null, expected, privateKey)]));
  expect(verifyNote(note(body, line), [key])).toHaveLength(1);
});

test('a signature of an unknown key is ignored, one of a known key that fails voids the note', () => {
  const known = make(noteTypes.ed25519);
  const unknown = make(noteTypes.ed25519, 'other.test');
  const good = signNote(known, body, 0);
  const bad = signNote({ ...known, privateKey: unknown.privateKey }, body, 0);
  const foreign = signNote(unknown, body, 0);
  expect(verifyNote(note(body, foreign + good), [known.key])).toHaveLength(1);
  expect(verifyNote(note(body, good + bad), [known.key])).toBeUndefined();
  expect(verifyNote(note(body, foreign), [known.key])).toEqual([]);
});

test('a key that signed many times counts once', () => {
  const known = make(noteTypes.cosignatureEd25519);
  const [first, later] = [signNote(known, body, 1), signNote(known, body, 2)];
  expect(verifyNote(note(body, first.repeat(50) + later + first), [known.key])).toHaveLength(1);
});

test.each([
  ['no signature', body],
  ['no empty line', `${body}— a AAAAAAA=\n`],
  ['no last line feed', `${body}\n— log.test/a AAAAAAAA`],
  ['a hyphen for the dash', `${body}\n- log.test/a AAAAAAAA\n`],
  ['a plus in the name', `${body}\n— log+test AAAAAAAA\n`],
  ['base64 that is not canonical', `${body}\n— log.test/a AAAAAAB=\n`],
  ['an id and no signature', `${body}\n— log.test/a AAAAAA==\n`],
  ['a carriage return', `${body.replace('\n', '\r\n')}\n— log.test/a AAAAAAAA\n`],
  ['a lone surrogate', `\ud800${body}\n— log.test/a AAAAAAAA\n`],
])('a note with %s is malformed', (_name, text) => {
  expect(() => parseNote(text)).toThrow(expect.objectContaining({ code: 'RequestMalformed' }));
});

test('a note has at most so many signatures, and so many bytes', () => {
  const line = signatureLine('log.test/a', '00000000', Buffer.alloc(64));
  expect(note(body, line.repeat(limits.noteSignaturesMax)).signatures).toHaveLength(limits.noteSignaturesMax);
  expect(() => note(body, line.repeat(limits.noteSignaturesMax + 1))).toThrow(`${limits.noteSignaturesMax}`);
  expect(() => note(`${'a'.repeat(limits.noteBytesMax)}\n`, line)).toThrow(`${limits.noteBytesMax}`);
});

test.each([
  ['a leading zero', 'o\n07\nROOT\n'],
  ['a sign', 'o\n+7\nROOT\n'],
  ['more than a safe integer', 'o\n9007199254740992\nROOT\n'],
  ['a short root', 'o\n7\nAAAA\n'],
  ['no origin', '\n7\nROOT\n'],
  ['an empty extension line', 'o\n7\nROOT\n\n'],
])('a checkpoint with %s is malformed', (_name, text) => {
  const root = Buffer.alloc(32).toString('base64');
  expect(() => parseCheckpoint(text.replace('ROOT', root))).toThrow('a checkpoint is');
});

test('extension lines are read over', () => {
  const text = `${body}extension\nanother\n`;
  expect(parseCheckpoint(text)).toEqual(parseCheckpoint(body));
});

test.each([
  'name',
  'name+00000000',
  '+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
  'example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
  'example.com/foo+530d903a+CekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
  'example.com/foo+530d903a+BukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
  'a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
])('%s is no verifier key', (text) => {
  expect(() => parseVkey(text)).toThrow(expect.objectContaining({ code: 'RequestMalformed' }));
});

test('whatever is read is a value or an error of the catalogue', () => {
  const signer = make(noteTypes.cosignatureEd25519);
  const whole = `${body}\n${signNote(signer, body, 1)}`;
  const mutated = (from: string) =>
    fc
      .tuple(fc.nat(from.length), fc.nat(3), fc.string({ unit: 'binary', maxLength: 3 }))
      .map(([at, cut, text]) => from.slice(0, at) + text + from.slice(at + cut));
  const decoders = [
    { read: (text: string) => verifyNote(parseNote(text), [signer.key]), whole },
    { read: parseCheckpoint, whole: body },
    { read: parseVkey, whole: vkeyOf(signer.key) },
    { read: parseSignatureLine, whole: signNote(signer, body, 1).trimEnd() },
  ];
  for (const { read, whole: from } of decoders)
    fc.assert(
      fc.property(fc.oneof(mutated(from), fc.string({ unit: 'binary' })), (text) => {
        try {
          read(text);
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'RequestMalformed' });
        }
      }),
      fuzzRuns,
    );
});
