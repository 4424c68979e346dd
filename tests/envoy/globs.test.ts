import fc from 'fast-check';
import { expect, test } from 'vitest';
import { authorityExpression, hostMatcher, pathExpression, restExpressions } from '../../envoy/globs.ts';
import { fuzzRuns } from '../support/fuzz.ts';

const matches = (expression: string, text: string): boolean => {
  const insensitive = expression.startsWith('(?i)');
  return new RegExp(`^(?:${insensitive ? expression.slice(4) : expression})$`, insensitive ? 'i' : '').test(
    text,
  );
};

test('host patterns match labels, with or without port, in either case', () => {
  const cases: [string, string, boolean][] = [
    ['api.test', 'API.test:443', true],
    ['api.test', 'apixtest', false],
    ['api.test', 'api.test.evil', false],
    ['*.test', 'a.test', true],
    ['*.test', 'a.b.test', false],
    ['*.test', 'test', false],
    ['**.a.test', 'a.test', true],
    ['**.a.test', 'x.y.a.test:1', true],
    ['**.a.test', 'xa.test', false],
    ['api.*.test', 'api.eu.test', true],
    ['api.**', 'api.x.y', true],
    ['**', '[::1]:443', true],
    ['*', 'localhost', true],
    ['::1', '[::1]:8443', true],
  ];
  for (const [pattern, authority, expected] of cases)
    expect([pattern, authority, matches(authorityExpression([pattern]), authority)]).toEqual([
      pattern,
      authority,
      expected,
    ]);
});

test('path globs match segments, and a doubled slash like a single one', () => {
  const cases: [string, string, boolean][] = [
    ['/mcp', '/mcp', true],
    ['/mcp', '//mcp', true],
    ['/mcp', '/mcp/', false],
    ['/mcp/**', '/mcp', true],
    ['/mcp/**', '/mcp/a/b', true],
    ['/mcp/**', '/mcpx', false],
    ['/*/x', '/a/x', true],
    ['/*/x', '/a/b/x', false],
    ['/**', '/', true],
    ['/a.b', '/aXb', false],
    ['/caf%C3%A9', '/caf%c3%a9', true],
    ['/caf%C3%A9', '/CAF%C3%A9', false],
  ];
  for (const [glob, path, expected] of cases)
    expect([glob, path, matches(pathExpression(glob), path)]).toEqual([glob, path, expected]);
});

test('behind a base path a glob matches what it matches of the whole', () => {
  const segment = fc.constantFrom('a', 'b', 'v1');
  const globSegment = fc.oneof(segment, fc.constantFrom('*', '**'));
  const join = (segments: string[]): string => `/${segments.join('/')}`;
  fc.assert(
    fc.property(
      fc.array(globSegment, { minLength: 1, maxLength: 5 }).map(join),
      fc.array(segment, { minLength: 1, maxLength: 2 }).map(join),
      fc.array(segment, { minLength: 1, maxLength: 3 }).map(join),
      (glob, base, rest) => {
        const whole = matches(pathExpression(glob), base + rest);
        expect(restExpressions(glob, base).some((expression) => matches(expression, rest))).toBe(whole);
      },
    ),
    fuzzRuns,
  );
});

test('a matcher of an exact host takes nothing of it for a pattern', () => {
  expect(hostMatcher('a.test')('axtest')).toBe(false);
  expect(hostMatcher('a.test')('a.test')).toBe(true);
});
