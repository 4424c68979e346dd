import fc from 'fast-check';
import { expect, it } from 'vitest';
import { findById } from '../../../filters/audit/find.ts';
import { encodeReceipt, makeReceipt, parseReceipt, verifyReceipt } from '../../../filters/audit/receipt.ts';
import { createTileReader } from '../../../filters/audit/tile-reader.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { openLogWorld, somePair } from '../../support/log-world.ts';
import { refusalOf } from '../../support/refusal.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const some = async (count: number) => {
  const world = openLogWorld(temporaryDirectory());
  for (let i = 0; i < count; i += 1)
    world.journal.append(someDecision({ id: `dec_${String(i).padStart(26, '0')}` }));
  await world.log.flush();
  await world.close();
  const published = world.log.newest();
  if (published === undefined) throw new Error('no checkpoint');
  return { ...world, published, reader: createTileReader(world.directory, count) };
};

it('proves each record of a log, offline, with its content and without', async () => {
  const { keys, lines, published, reader } = await some(600);
  for (const index of [0, 1, 255, 256, 511, 512, 599]) {
    const line = lines()[index]?.toString();
    for (const content of [undefined, line]) {
      const text = encodeReceipt(makeReceipt(reader, published, index, content));
      expect(text.startsWith(`c2sp.org/tlog-proof@v1\nextra `)).toBe(true);
      const verdict = verifyReceipt(parseReceipt(text), keys());
      expect(verdict.content).toBe(content === undefined ? undefined : true);
      expect([verdict.checkpoint.size, verdict.leaf.agent_seq, verdict.signers.length]).toEqual([
        600,
        index + 1,
        2,
      ]);
      expect(encodeReceipt(parseReceipt(text))).toBe(text);
    }
  }
  expect(refusalOf(() => makeReceipt(reader, published, 600, undefined))).toBe('NotFound');
});

it('believes no receipt in which anything was changed', async () => {
  const { keys, lines, published, reader } = await some(40);
  const receipt = makeReceipt(reader, published, 7, lines()[7]?.toString());
  const trusted = keys();
  expect(verifyReceipt(receipt, trusted).content).toBe(true);
  for (const changed of [
    { ...receipt, index: 8 },
    { ...receipt, leaf: reader.entry(8).toString() },
    { ...receipt, path: receipt.path.slice(1) },
    { ...receipt, path: receipt.path.toReversed() },
    { ...receipt, note: receipt.note.replace('\n40\n', '\n41\n') },
  ])
    expect(refusalOf(() => verifyReceipt(changed, trusted))).toBe('RequestMalformed');
  expect(
    refusalOf(() =>
      verifyReceipt(
        receipt,
        somePair().map(({ key }) => key),
      ),
    ),
  ).toBe('RequestMalformed');
  expect(refusalOf(() => verifyReceipt(receipt, []))).toBe('RequestMalformed');
  expect(verifyReceipt({ ...receipt, line: lines()[8]?.toString() }, trusted).content).toBe(false);
  expect(verifyReceipt({ ...receipt, line: receipt.line?.replace('GET', 'PUT') }, trusted).content).toBe(
    false,
  );
});

it('reads no receipt out of anything else', async () => {
  const { keys, published, reader } = await some(5);
  const text = encodeReceipt(makeReceipt(reader, published, 3, undefined));
  const trusted = keys();
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.string({ unit: 'binary', maxLength: 3 }), (at, instead) => {
      const changed = text.slice(0, at) + instead + text.slice(at + 1);
      if (changed === text) return;
      const outcome = refusalOf(() => verifyReceipt(parseReceipt(changed), trusted));
      // Base64 of what nobody signed apart, nothing can be put in: a changed signature line of an unknown key.
      if (outcome === 'none') expect(at).toBeGreaterThan(text.indexOf('\n— '));
      else expect(outcome).toBe('RequestMalformed');
    }),
    { ...fuzzRuns, numRuns: fuzzRuns.numRuns * 3 },
  );
  fc.assert(
    fc.property(fc.string(), (any) => {
      expect(refusalOf(() => parseReceipt(any))).toBe('RequestMalformed');
    }),
    fuzzRuns,
  );
});

it('finds what a receipt is to be of', async () => {
  const { stateDir, log } = await some(30);
  const found = await findById(`${stateDir}/journal`, log.settledFiles(), `dec_${'17'.padStart(26, '0')}`, 5);
  expect(found.map(({ index }) => index)).toEqual([17]);
});
