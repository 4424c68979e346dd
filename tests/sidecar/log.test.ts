import { describe, expect, test } from 'vitest';
import type { HoldId, RuleName } from '../../filters/common/brand.ts';
import { printable, printableJson } from '../../filters/common/printable.ts';
import type { RequiresOversight } from '../../filters/decision.ts';
import { decisionFields, decisionLine } from '../../sidecar/decision-line.ts';
import { createLog, type LogTarget } from '../../sidecar/log.ts';
import { fakeAllow, fakeCall } from '../support/decisions.ts';

const canary = 'cAnArY-8f2b71';

function collect(format: 'json' | 'pretty') {
  const lines: string[] = [];
  const target: LogTarget = { write: (line) => lines.push(line) };
  return { log: createLog({ level: 'trace', format }, target), text: () => lines.join(''), lines };
}

describe.each(['json', 'pretty'] as const)('a %s log', (format) => {
  test.each([
    ['authorization', { headers: { authorization: canary } }],
    ['proxy-authorization', { headers: { 'proxy-authorization': canary } }],
    ['cookie', { headers: { cookie: canary } }],
    ['set-cookie', { headers: { 'Set-Cookie': canary } }],
    ['x-api-key', { headers: { 'X-Api-Key': canary } }],
    ['a token', { deep: { list: [{ access_token: canary }] } }],
    ['a secret', { clientSecret: canary }],
    ['a password', { user: { passwordHash: canary } }],
    ['a body', { call: { body: canary } }],
    ['the bytes of a body', { body: { kind: 'whole', bytes: new TextEncoder().encode(canary) } }],
    ['a bearer token in words', { detail: `sent Bearer ${canary}` }],
    ['userinfo of a URL', { url: `http://demo:${canary}@proxy.test/` }],
    ['a token in a query', { url: `https://a.test/x?access_token=${canary}&y=1` }],
    ['an error whose cause tells it', { err: new Error('no', { cause: { token: canary } }) }],
    ['an error whose message tells it', { err: new Error(`Bearer ${canary}`) }],
  ])('never holds %s', (_name, fields) => {
    const { log, text } = collect(format);
    log.info(fields, 'something happened');
    log.child(fields).warn('again');
    expect(text()).toContain('something happened');
    expect(text()).not.toContain(canary);
    expect(text()).not.toContain(Buffer.from(canary).toString('base64'));
    expect(text()).not.toContain([...Buffer.from(canary)].join(','));
  });

  test('holds no character that a terminal obeys, and one line for each entry', () => {
    const { log, text, lines } = collect(format);
    const evil = 'a\u001b[2Jb\u009b1mc\r\nALLOW d\u202ee\u2028f\u0000g\ud800h';
    log.info({ evil, [`k\u001b]0;x\u0007`]: 1 }, evil);
    const shown = text().replace(/\n$/, '');
    expect(lines).toHaveLength(1);
    expect(shown).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202e]/u);
  });
});

test('a JSON log parses back to what was logged, control characters and all', () => {
  const { log, text } = collect('json');
  const evil = 'x\u009b\u202e\u{e0041}\ud83d\ude00';
  log.info({ evil }, 'said');
  expect(JSON.parse(text())).toMatchObject({ level: 'info', msg: 'said', evil });
});

test('a flag, a count or an absence is told even where its name sounds secret', () => {
  const { log, text } = collect('json');
  log.info({ token: null, tokens: 12, secret: false }, 'counts');
  expect(JSON.parse(text())).toMatchObject({ token: null, tokens: 12, secret: false });
});

test('what is logged is bounded in depth and breadth', () => {
  const { log, text } = collect('json');
  let deep: Record<string, unknown> = {};
  for (let i = 0; i < 10_000; i += 1) deep = { deep };
  log.info({ deep, wide: Array.from({ length: 100_000 }, (_, i) => i) }, 'large');
  expect(text().length).toBeLessThan(2_000);
});

test('a decision is one line that a person reads', () => {
  const at = new Date(2026, 0, 2, 12, 0, 1, 234).getTime();
  const line = decisionLine(at, decisionFields(fakeAllow(), fakeCall()));
  expect(line).toBe(
    '12:00:01.234 ALLOW demo GET demo.sallyport.test/hello rule=demo-read quota 2/3 left id=dec_01ARZ3NDEKTSV4RRFFQ69G5FAV',
  );
});

test('a lease’s line says for how many calls it is', () => {
  const lease = { calls: 512, lifeMs: 500, path: '/', exact: false };
  expect(decisionLine(0, decisionFields({ ...fakeAllow(), lease }, fakeCall()))).toContain(
    'rule=demo-read lease of 512 calls quota 2/3 left',
  );
});

test('a CONNECT whose requests are read says that each of them is decided', () => {
  const opened = { ...fakeAllow(), rule: undefined, pin: undefined, quotas: [] };
  expect(decisionLine(0, decisionFields(opened, fakeCall()))).toContain(
    '/hello (opened to be read; each request is decided) id=',
  );
});

test('a hold’s line says how it is approved here', () => {
  const held: RequiresOversight = {
    ...fakeAllow(),
    kind: 'RequiresOversight',
    policy_id: 'demo-write' as RuleName,
    timeout: 60_000,
    hold: 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV' as HoldId,
    retryAfterMs: 5_000,
  };
  const fields = decisionFields(held, fakeCall());
  expect(decisionLine(0, fields, false, (words) => `npm start -- ${words} --state-dir /s`)).toContain(
    'approve: npm start -- holds approve hold_01ARZ3NDEKTSV4RRFFQ69G5FAV --state-dir /s id=',
  );
});

test('a decision line tells no query, header or body, and obeys nothing an agent chose', () => {
  const call = fakeCall({
    path: `/hello\u001b[2J?token=${canary}`,
    authority: `user:${canary}@demo.sallyport.test\n`,
    headers: { authorization: canary },
    body: { kind: 'whole', bytes: new TextEncoder().encode(canary) },
  });
  const { log, text } = collect('pretty');
  log.info({ decision: decisionFields({ ...fakeAllow(), destination: undefined }, call) }, 'decision');
  expect(text()).not.toContain(canary);
  expect(text().trimEnd()).not.toMatch(/\p{Cc}/u);
});

test('printable text is cut at its limit and says so', () => {
  expect(printable('x'.repeat(600), 10)).toBe(`${'x'.repeat(10)}…`);
  expect(printable('plain ünïcode 漢字')).toBe('plain ünïcode 漢字');
  expect(printableJson('{"a":"b"}\n')).toBe('{"a":"b"}\n');
});
