import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { Body } from '../../../filters/facts.ts';
import { parseStrictJson } from '../../../filters/policy/strict-json.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { compile, decided, factsOf, issuesOf } from './compiled-policy.ts';

type Facts = NonNullable<Parameters<typeof factsOf>[2]>;
type Place = Parameters<typeof factsOf>[1];

const to = { hosts: ['github'] };
const compileWhen = (when: string, outcome: object): ReturnType<typeof compile> =>
  compile({ rules: [{ name: 'r', to, when, ...outcome }] });

/** `true`, `false` or `error`: an error is what an allow takes for no and a forbid for yes. */
function answer(when: string, facts: Facts = {}, place: Place = {}): 'true' | 'false' | 'error' {
  const allow = compileWhen(when, { allow: {} });
  const forbid = compileWhen(when, { forbid: {} });
  const allowed = decided(allow, factsOf(allow, place, facts)) === 'allow by r';
  const forbidden = decided(forbid, factsOf(forbid, place, facts)) === 'forbid by r';
  if (allowed && !forbidden) throw new Error('one answer for two outcomes');
  return allowed ? 'true' : forbidden ? 'error' : 'false';
}
const refusal = (when: string): string =>
  issuesOf({ rules: [{ name: 'r', to, when, allow: {} }] }).join('\n');

describe('what a condition can read', () => {
  test.each([
    ['agent.name == "researcher" && agent.id == "spiffe://example.org/researcher"'],
    ['agent.labels.team == "search"'],
    ['request.method == "GET" && request.path == "/" && request.query == ""'],
    ['request.headers["x-a"] == "b" && !("x-c" in request.headers)'],
    ['destination.host == "api.github.com" && destination.port == 443 && destination.scheme == "https"'],
    ['now > timestamp("2026-01-01T00:00:00Z") && now.getHours() == 12'],
    ['request.path.matches("^/[a-z]{0,3}$")'],
    ['request.headers.exists(k, k.startsWith("x-"))'],
  ])('%s', (when) => expect(answer(when, { headers: { 'x-a': 'b' } })).toBe('true'));

  test('the MCP call', () => {
    const place = { mcp: { kind: 'call', method: 'tools/call', tool: 'search' } } as const;
    expect(answer('request.mcp.method == "tools/call" && request.mcp.tool == "search"', {}, place)).toBe(
      'true',
    );
    expect(answer('request.mcp.tool == "search"')).toBe('error');
  });

  test('the body', () => {
    const json = { model: 'm', max_tokens: 10, stream: true, list: [1, 2], text: 'x', n: 5 };
    for (const when of [
      'request.json.n == 5 && request.json.n <= 5 && request.json.list.all(i, i < 3)',
      'request.model.name == "m" && request.model.max_output_tokens <= 10 && request.model.stream',
      'request.body_bytes == request.model.input_bytes && request.body_bytes > 10',
      'has(request.json.text) && !has(request.json.other)',
    ])
      expect(answer(when, { json })).toBe('true');
    expect(answer('request.model.max_output_tokens <= 9', { json })).toBe('false');
  });
});

describe('what cannot be evaluated counts as the outcome says', () => {
  const error = 'request.model.max_output_tokens <= 4096';
  const rule = (name: string, outcome: object): object => ({ name, to, when: error, ...outcome });
  test('forbid forbids, hold holds, allow does not match', () => {
    const each = (rules: object[]): string => {
      const policy = compile({ rules });
      return decided(policy, factsOf(policy, {}, { json: {} }));
    };
    expect(each([rule('a', { allow: {} })])).toBe('none');
    expect(each([rule('h', { hold: { approvers: 'one' } })])).toBe('hold by h');
    expect(each([rule('f', { forbid: {} })])).toBe('forbid by f');
    expect(each([rule('a', { allow: {} }), { name: 'b', to, allow: {} }])).toBe('allow by b');
  });

  const tokens = 'request.model.max_output_tokens <= 10';
  const bodies: [string, Body][] = [
    ['unread', { kind: 'unread' }],
    ['too large', { kind: 'too-large', limitBytes: 5 }],
    ['not JSON', { kind: 'whole', bytes: new TextEncoder().encode('max_tokens=1') }],
    ['invalid UTF-8', { kind: 'whole', bytes: Uint8Array.of(0x22, 0xff, 0x22) }],
    ['empty', { kind: 'whole', bytes: new Uint8Array() }],
    ['with a byte order mark', { kind: 'whole', bytes: Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d) }],
  ];
  test.each(bodies)('a body that is %s', (_, body) => {
    expect(answer(tokens, { body })).toBe('error');
    expect(answer('has(request.json.x)', { body })).toBe('error');
    expect(answer('has(request.model.max_output_tokens)', { body })).toBe('error');
  });

  test.each([
    ['{}'],
    ['[]'],
    ['null'],
    ['{"max_tokens":"5"}'],
    ['{"max_tokens":5.5}'],
    ['{"max_tokens":1,"max_tokens":100000}'],
    ['{"max_tokens":1,"max_\\u0074okens":100000}'],
    ['{"max_tokens":1,"max_completion_tokens":100000}'],
    ['{"max_tokens":1,"Max_Tokens":100000}'],
    ['{"max_tokens":1,"max_to\u212aens":100000}'],
  ])('%s has no one limit of output tokens', (text) => {
    expect(answer(tokens, { body: { kind: 'whole', bytes: new TextEncoder().encode(text) } })).toBe('error');
  });

  test.each([
    ['{"max_tokens":5}'],
    ['{"max_completion_tokens":5,"max_tokens":null}'],
    ['{"max_output_tokens":5,"max_tokens":5}'],
  ])('%s has one', (text) => {
    expect(answer(tokens, { body: { kind: 'whole', bytes: new TextEncoder().encode(text) } })).toBe('true');
  });

  test.each([
    [{ 'content-encoding': 'gzip' }],
    [{ 'content-type': 'text/plain' }],
    [{ 'content-type': 'application/json; charset=utf-7' }],
    [{ 'content-type': 'multipart/form-data; boundary=x' }],
  ])('a body that the upstream may read otherwise: %o', (headers) => {
    expect(answer(tokens, { json: { max_tokens: 5 }, headers })).toBe('error');
  });
  test('a JSON content type of any flavour is read', () => {
    for (const type of ['application/json', 'application/json; charset=UTF-8', 'application/vnd.api+json'])
      expect(answer(tokens, { json: { max_tokens: 5 }, headers: { 'content-type': type } })).toBe('true');
  });

  test('what decides without the failing part decides', () => {
    expect(answer('request.method == "POST" && request.json.x == 1')).toBe('false');
    expect(answer('request.method == "GET" || request.json.x == 1')).toBe('true');
    expect(answer('request.headers.missing == "x"')).toBe('error');
  });
  test('a value that is no truth is an error', () => {
    expect(answer('request.json.x', { json: { x: 1 } })).toBe('error');
    expect(answer('request.json.x', { json: { x: true } })).toBe('true');
  });
});

describe('what is refused at load', () => {
  test.each([
    ['request.methodd == "x"', 'No such key: methodd at character 9, "methodd"'],
    ['request.method ==', 'expected a valid CEL condition'],
    ['request.method', 'true or false, not one of type string'],
    ['usage.calls > 1', 'Unknown variable: usage'],
    ['request.method == 5', 'no such overload'],
    ['request.path.matches(request.query)', 'matches() of a literal'],
    ['request.path.matches("(?=x)")', 'a regular expression with'],
    ['request.path.contains(request.query)', 'cannot come from the request'],
    ['request.json.a.all(x, request.json.b.exists(y, y == x))', 'no loop in a loop'],
    ['request.json.a.all(x, x in request.json.b)', '`request` cannot be named inside a loop'],
    ['request.json.a.all(x, x.b.contains(x.c))', 'cannot come from the request'],
    ['cel.bind(a, request.json, a.all(x, x in a))', 'without cel.bind'],
    ['duration(request.query) > duration("1s")', 'duration() of a literal'],
    [
      `${'request.json.a.all(x, x > 1) && '.repeat(limits.celLoopsMax)}request.json.a.all(x, x > 1)`,
      'at most 4 loops',
    ],
    [`${'('.repeat(60)}true${')'.repeat(60)}`, 'expected a valid CEL condition'],
    [`${'true && '.repeat(400)}true`, 'expected a valid CEL condition'],
  ])('%s', (when, message) => {
    expect(refusal(when)).toContain(message);
  });
});

test('why a condition failed tells no value of the request', () => {
  const policy = compileWhen('bool(request.headers["x"])', { allow: {} });
  const [explained] = policy.explain(factsOf(policy, {}, { headers: { x: 'hunter2' } }));
  expect(explained?.why).toContain(
    'the condition failed (bool conversion error at "bool(request.headers["x"])"',
  );
  expect(explained?.why).not.toContain('hunter2');
});

test('strict JSON is JSON without repeated names and boundless depth', () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  expect(parseStrictJson(bytes('{"a":{"a":[{"a":"a,\\"a"}]},"b":[]}'))).toEqual({
    a: { a: [{ a: 'a,"a' }] },
    b: [],
  });
  expect(() => parseStrictJson(bytes('{"x":[{"a":1,"b":2,"a":3}]}'))).toThrow('twice');
  expect(() => parseStrictJson(bytes('['.repeat(65) + ']'.repeat(65)))).toThrow('deeper than 64');
  expect(parseStrictJson(bytes('['.repeat(64) + ']'.repeat(64)))).toBeDefined();
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), (text) => {
      expect(parseStrictJson(bytes(text))).toEqual(JSON.parse(text));
    }),
    fuzzRuns,
  );
});

test('garbage in place of JSON is an error and nothing else', () => {
  const policy = compileWhen('request.model.max_output_tokens > 1 && request.json.a[0].b == "c"', {
    allow: {},
  });
  const text = fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0a1e. ', 'max_tokens', 'true') });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        text.map((json) => new TextEncoder().encode(json)),
      ),
      (bytes) => {
        expect(decided(policy, factsOf(policy, {}, { body: { kind: 'whole', bytes } }))).toBe('none');
        try {
          parseStrictJson(bytes);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(Error);
        }
      },
    ),
    fuzzRuns,
  );
});

test('no text makes the compiler of conditions throw', () => {
  const word = fc.constantFrom(
    'request',
    '.',
    'json',
    'method',
    '"a"',
    '(',
    ')',
    '[',
    ']',
    '==',
    '&&',
    '!',
    'all',
    'x',
    ',',
    'matches',
    '1',
    'in',
    '?',
    ':',
    'has',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(word, { minLength: 1, maxLength: 12 }).map((words) => words.join('')),
        fc.string({ minLength: 1 }),
      ),
      (when) => {
        const parts = { rules: [{ name: 'r', to, when, allow: {} }] };
        try {
          compile(parts);
        } catch (thrown) {
          expect(String(thrown)).toMatch(/policy\.yaml:/);
        }
      },
    ),
    fuzzRuns,
  );
});
