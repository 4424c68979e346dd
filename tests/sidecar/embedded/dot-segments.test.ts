import fc from 'fast-check';
import { expect, test } from 'vitest';
import { resolveDotSegments } from '../../../sidecar/embedded/dot-segments.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

test.each([
  ['/a/b', '/a/b'],
  ['/a/../b', '/b'],
  ['/a/./b/.', '/a/b/'],
  ['/a/b/..', '/a/'],
  ['/..', '/'],
  ['/../../a', '/a'],
  ['/a/%2e%2E/b', '/b'],
  ['/a/.%2e/b', '/b'],
  ['/a/%2e/b', '/a/b'],
  ['/a/../b?x=/../c', '/b?x=/../c'],
  ['/a/...', '/a/...'],
  ['/a//../b', '/a/b'],
  ['/a/..%2fb', '/a/..%2fb'],
  ['/.well-known/x', '/.well-known/x'],
  ['*', '*'],
])('%s is %s', (target, resolved) => {
  expect(resolveDotSegments(target)).toBe(resolved);
});

test('it resolves as URL parsers do, and once is enough', () => {
  const segment = fc.constantFrom('', '.', '..', '%2e', '%2E%2e', '.%2e', 'a', 'b.c', '...', '%2f', 'x;y');
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 8 }), fc.constantFrom('', '?q=/../'), (segments, query) => {
      const target = `/${segments.join('/')}${query}`;
      const resolved = resolveDotSegments(target);
      const url = new URL(`http://host.test${target}`);
      expect(resolved).toBe(url.pathname + url.search);
      expect(resolveDotSegments(resolved)).toBe(resolved);
    }),
    fuzzRuns,
  );
});
