import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeLedgerLine } from '../../envoy/ledger-line.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { decisionId, lineOf, someUse } from '../support/some-use.ts';

/** As Envoy 1.40 wrote it. */
const request = {
  agent: 'tester',
  at: '1795243992.247239000',
  authority: 'api.test',
  bytes_in: 0,
  bytes_out: 115,
  connect: 'api.test',
  connection: 'a7a583da2326-8',
  decision: decisionId(1),
  details: 'via_upstream',
  duration_ms: 102,
  flags: '-',
  method: 'GET',
  path: '/x',
  protocol: 'HTTP/1.1',
  source: '127.0.0.1:38190',
  stage: 'explicit',
  status: 200,
  tunnel: 'a7a583da2326-8',
  type: 'DownstreamEnd',
  upstream: '127.0.0.1:40219',
};
const decoded = (changes: Record<string, unknown> = {}) =>
  decodeLedgerLine(JSON.stringify({ ...request, ...changes }));

test('a line of a request is read', () => {
  expect(decoded()).toEqual({
    final: true,
    kind: 'request',
    stream: 'a7a583da2326-8@1795243992.247239000',
    decision: decisionId(1),
    ordinal: undefined,
    connectDecision: '',
    hold: '',
    upstream: '127.0.0.1:40219',
    left: true,
    status: 200,
    bytesIn: 0,
    bytesOut: 115,
    durationMs: 102,
    atMs: 1_795_243_992_247.239,
    flags: '',
    details: 'via_upstream',
    error: '',
    method: 'GET',
    scheme: 'http',
    authority: 'api.test',
    path: '/x',
  });
});

test.each([
  [{ decision: `${decisionId(1)}#17` }, { decision: decisionId(1), ordinal: 17 }],
  [{ decision: `${decisionId(1)}#0` }, { decision: '', ordinal: undefined }],
  [{ decision: 'dec_made-up' }, { decision: '' }],
  [{ type: 'DownstreamPeriodic' }, { final: false }],
  [
    { method: 'CONNECT', upstream: 'envoy://inner/' },
    { kind: 'connect', upstream: '', left: false },
  ],
  [
    { type: 'TcpConnectionEnd', stage: 'tunnel', decision: undefined, connect_decision: decisionId(2) },
    { kind: 'tunnel', scheme: 'tcp', decision: '', connectDecision: decisionId(2) },
  ],
  [{ stage: 'mitm' }, { scheme: 'https' }],
  [
    { upstream: undefined, flags: 'UF' },
    { upstream: '', left: false },
  ],
  [{ flags: 'UF,URX' }, { upstream: '127.0.0.1:40219', left: false }],
  [{ flags: 'DC' }, { left: true, flags: 'DC' }],
  [{ status: undefined }, { status: 0 }],
  [{ error: 'HeadersTooLarge' }, { error: 'HeadersTooLarge' }],
])('%j is %j', (changes, expected) => {
  expect(decoded(changes)).toMatchObject(expected);
});

test.each([
  { type: 'UpstreamEnd' },
  { type: undefined },
  { at: undefined },
  { at: 'yesterday' },
  { connection: '' },
])('a line with %j is none of ours', (changes) => {
  expect(decoded(changes)).toBeUndefined();
});

test('a line behind one that a kill cut is read, and the cut one is not', () => {
  const whole = JSON.stringify(request);
  for (let cut = 1; cut < whole.length; cut += 1) {
    const torn = whole.slice(0, cut);
    expect(decodeLedgerLine(torn)).toBeUndefined();
    expect(decodeLedgerLine(torn + whole)).toEqual(decoded());
  }
});

test('nothing that a client writes makes a field of its own', () => {
  const evil = `","decision":"${decisionId(9)}","type":"DownstreamEnd","upstream":"10.0.0.1:1"},{"at":"1.0`;
  expect(decoded({ path: evil, authority: evil, method: evil })).toMatchObject({
    decision: decisionId(1),
    upstream: '127.0.0.1:40219',
    path: evil,
  });
  const torn = JSON.stringify({ ...request, path: evil }).slice(0, -3);
  expect(decodeLedgerLine(torn)).toBeUndefined();
});

test('any text is read or it is not: nothing is thrown', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
      decodeLedgerLine(line);
    }),
    fuzzRuns,
  );
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...Object.keys(request), 'hold', 'error'), fc.jsonValue()),
      (fields) => {
        const use = decodeLedgerLine(JSON.stringify({ ...request, ...fields }));
        if (use === undefined) return;
        expect(Number.isFinite(use.atMs) && use.bytesIn >= 0 && use.bytesOut >= 0).toBe(true);
        expect(use.left && use.upstream === '').toBe(false);
      },
    ),
    fuzzRuns,
  );
});

test('the line that tests write is read as it was meant', () => {
  const use = someUse({ ordinal: 4, hold: 'hold_x', error: 'Forbidden' });
  expect(decodeLedgerLine(lineOf(use))).toEqual({ ...use, stream: 'e1-1@1800000000.000000000' });
});
