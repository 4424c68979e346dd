/** What the embedded plane writes to its access log, and what becomes of lines that it cannot write. */
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import pino from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { PlaneDeps } from '../../../envoy/data-plane.ts';
import { decodeLedgerLine } from '../../../envoy/ledger-line.ts';
import type { Call } from '../../../filters/facts.ts';
import { embeddedLogFile, openEmbeddedLedger } from '../../../sidecar/embedded/ledger.ts';
import { fakeAllow, fakeCall } from '../../support/decisions.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

/** @param makeFile makes the log before the plane opens it. */
function setUp(makeFile: (file: string) => void = () => undefined) {
  const stateDir = temporaryDirectory();
  const file = embeddedLogFile(stateDir);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  makeFile(file);
  const lost: number[] = [];
  const decision = fakeAllow();
  const deps: Pick<PlaneDeps, 'stateDir' | 'clock' | 'log' | 'ledger' | 'checker'> = {
    stateDir,
    clock: movingClock(),
    log: pino({ level: 'silent' }),
    checker: { check: async () => decision, settle: () => undefined, refundUnsent: () => undefined },
    ledger: {
      began: () => undefined,
      ended: () => undefined,
      notSent: () => undefined,
      hasRead: () => true,
      lost: (calls) => lost.push(calls),
    },
  };
  // Nothing else of what a plane is given is asked for by its ledger.
  const ledger = openEmbeddedLedger(deps as PlaneDeps);
  onTestFinished(() => ledger.close());
  const call = async (changes: Partial<Call>): Promise<void> => {
    await ledger.checker.check(fakeCall(changes), new AbortController().signal);
    ledger.checker.settle(decision, 'NotSent');
  };
  return { file, lost, decision, call };
}

test.each([
  ['letters', 'a'],
  ['quotes', '"'],
  ['control characters', '\u0001'],
])('a line has an end within one reading, whatever %s a client sends', async (_, letter) => {
  const { file, decision, call } = setUp();
  const long = letter.repeat(limits.pathBytesMax - 1);
  await call({ method: long, authority: long, path: `/${long}` });
  await call({ stage: 'connect', authority: long });
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  expect(lines.length).toBe(2);
  for (const line of lines) expect(Buffer.byteLength(line)).toBeLessThan(limits.ledgerReadBytesMax);
  const [request, tunnel] = lines.map(decodeLedgerLine);
  expect(request).toMatchObject({
    decision: decision.id,
    method: letter.repeat(limits.ledgerMethodCharsMax),
    authority: letter.repeat(limits.ledgerAuthorityCharsMax),
    path: `/${long}`.slice(0, limits.ledgerPathCharsMax),
  });
  expect(tunnel).toMatchObject({
    connectDecision: decision.id,
    authority: letter.repeat(limits.ledgerAuthorityCharsMax),
  });
});

test('calls whose lines there is no room for are told to the ledger', async () => {
  const { lost, call } = setUp((file) => symlinkSync('/dev/full', file));
  const path = `/${'a'.repeat(limits.ledgerPathCharsMax)}`;
  let calls = 0;
  while (lost.length === 0 && calls < 2_000) {
    await call({ path });
    calls += 1;
  }
  expect(lost).toEqual([calls]);
});
