import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hostMatches, parseHostPattern, reversedLabels } from '../../../filters/policy/host-pattern.ts';
import {
  isOneSegment,
  parsePathPattern,
  pathMatches,
  pathSegments,
} from '../../../filters/policy/path-pattern.ts';
import { createPatternTrie, patternFits } from '../../../filters/policy/pattern-trie.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const host = (raw: string): string => {
  const parsed = parseHostPattern(raw);
  return parsed.ok ? parsed.value.text : `! ${parsed.message}`;
};
const path = (raw: string): string => {
  const parsed = parsePathPattern(raw);
  return parsed.ok ? parsed.value.text : `! ${parsed.message}`;
};
const hostFits = (raw: string, name: string, options = { address: false, restricting: false }): boolean => {
  const parsed = parseHostPattern(raw);
  if (!parsed.ok) throw new Error(parsed.message);
  const labels = reversedLabels(name, options.address);
  return hostMatches(parsed.value, name, labels, options.address, options.restricting);
};
const pathFits = (raw: string, of: string): boolean => {
  const parsed = parsePathPattern(raw);
  if (!parsed.ok) throw new Error(parsed.message);
  return pathMatches(parsed.value, pathSegments(of));
};

describe('host patterns', () => {
  test.each([
    ['API.Example.ORG', 'api.example.org'],
    ['api.example.org.', 'api.example.org'],
    ['*.Bücher.example', '*.xn--bcher-kva.example'],
    ['**', '**'],
    ['[2001:DB8:0:0::1]', '2001:db8::1'],
    ['2001:db8::1', '2001:db8::1'],
    ['10.0.0.1', '10.0.0.1'],
    ['_dmarc.example.org', '_dmarc.example.org'],
  ])('%s is written %s', (raw, text) => expect(host(raw)).toBe(text));

  test.each([
    'https://example.org',
    'example.org/path',
    'example.org:443',
    'api-*.example.org',
    '***.example.org',
    'a..b',
    'user@example.org',
    'exa mple.org',
    '127.1',
    '0x7f.0.0.1',
    '[fe80::1%eth0]',
    '[not-an-address]',
    '[::1]:443',
    '-a.example',
    `${'a'.repeat(64)}.example`,
    'example.org%2f',
    '*.1',
  ])('%s is refused', (raw) => expect(host(raw)).toMatch(/^! /));

  test.each([
    ['*.example.org', 'a.example.org', true],
    ['*.example.org', 'example.org', false],
    ['*.example.org', 'a.b.example.org', false],
    ['**.example.org', 'example.org', true],
    ['**.example.org', 'a.b.example.org', true],
    ['**.example.org', 'badexample.org', false],
    ['a.**.org', 'a.org', true],
    ['a.*.org', 'a.b.org', true],
    ['**', 'anything.example', true],
    ['example.org', 'example.org.evil.example', false],
  ])('%s against %s: %s', (pattern, name, fits) => expect(hostFits(pattern, name)).toBe(fits));

  test('a wildcard stands for an address only as ** of what restricts', () => {
    expect(hostFits('**', '10.0.0.1', { address: true, restricting: false })).toBe(false);
    expect(hostFits('**', '10.0.0.1', { address: true, restricting: true })).toBe(true);
    expect(hostFits('*', '10.0.0.1', { address: true, restricting: true })).toBe(false);
    expect(hostFits('10.0.0.1', '10.0.0.1', { address: true, restricting: false })).toBe(true);
  });
});

describe('path patterns', () => {
  test.each([
    ['/a/b', '/a/b'],
    ['/%7euser/%2E%2e%2ex', '/~user/...x'],
    ['/a b/ü', '/a%20b/%C3%BC'],
    ['/a%3ab', '/a%3Ab'],
    ['/**', '/**'],
  ])('%s is written %s', (raw, text) => expect(path(raw)).toBe(text));

  test.each(['/a?b', '/a#b', '/a/../b', '/a/./b', '/a/%2e%2e/b', '/a*', '/a%2fb', '/a\\b', '/a%', '/***'])(
    '%s is refused',
    (raw) => expect(path(raw)).toMatch(/^! /),
  );

  test.each([
    ['/gists/**', '/gists', true],
    ['/gists/**', '/gists/', true],
    ['/gists/**', '/gists/a/b', true],
    ['/gists/**', '/gistsx', false],
    ['/users/*', '/users/a', true],
    ['/users/*', '/users/', false],
    ['/users/*', '/users/a/b', false],
    ['/**/edit', '/edit', true],
    ['/**/edit', '/a/b/edit', true],
    ['/', '/', true],
    ['/', '/a', false],
    ['/**', '', true],
    ['/a/**/b/**/c', '/a/x/b/y/b/c', true],
    ['/a/**/b/**/c', '/a/x/c/b', false],
  ])('%s against %s: %s', (pattern, of, fits) => expect(pathFits(pattern, of)).toBe(fits));
});

/** By definition, with every way tried. */
function naive(pattern: readonly string[], words: readonly string[]): boolean {
  const [head, ...rest] = pattern;
  if (head === undefined) return words.length === 0;
  if (head === '**') return naive(rest, words) || (words.length > 0 && naive(pattern, words.slice(1)));
  const [word, ...others] = words;
  if (word === undefined) return false;
  return (head === '*' ? word !== '' : head === word) && naive(rest, others);
}

describe('the trie', () => {
  const words = fc.array(fc.constantFrom('a', 'b', 'c', ''), { maxLength: 6 });
  const patterns = fc.array(fc.array(fc.constantFrom('a', 'b', '*', '**', ''), { maxLength: 6 }), {
    maxLength: 12,
  });

  test('finds exactly the patterns that fit, each once', () => {
    fc.assert(
      fc.property(patterns, words, (list, of) => {
        const trie = createPatternTrie<Set<number>>(isOneSegment);
        for (const [index, pattern] of list.entries()) trie.ensure(pattern, () => new Set()).add(index);
        const found: Set<number>[] = [];
        trie.collect(of, found);
        expect(new Set(found).size).toBe(found.length);
        const fitting = list.flatMap((pattern, index) => (naive(pattern, of) ? [index] : []));
        expect(found.flatMap((set) => [...set]).sort((a, b) => a - b)).toEqual(fitting);
      }),
      fuzzRuns,
    );
  });

  test('one pattern fits as by definition', () => {
    const one = fc.array(fc.constantFrom('a', 'b', '*', '**', ''), { maxLength: 7 });
    fc.assert(
      fc.property(one, words, (pattern, of) => {
        expect(patternFits(pattern, of, isOneSegment)).toBe(naive(pattern, of));
      }),
      fuzzRuns,
    );
  });

  test('a long path against many ** ends', () => {
    const pattern = Array.from({ length: 30 }, () => ['**', 'a']).flat();
    const path = Array.from({ length: 16_000 }, () => 'a');
    const trie = createPatternTrie<string>(isOneSegment);
    trie.ensure([...pattern, 'b'], () => 'found');
    const found: string[] = [];
    trie.collect(path, found);
    expect(found).toEqual([]);
    expect(patternFits([...pattern, 'b'], path, isOneSegment)).toBe(false);
  });
});

test('no text makes the pattern readers throw', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
      const parsedHost = parseHostPattern(text);
      if (parsedHost.ok) expect(host(parsedHost.value.text)).toBe(parsedHost.value.text);
      const parsedPath = parsePathPattern(text);
      if (parsedPath.ok) expect(path(parsedPath.value.text)).toBe(parsedPath.value.text);
    }),
    fuzzRuns,
  );
});
