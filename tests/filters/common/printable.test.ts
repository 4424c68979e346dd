import fc from 'fast-check';
import { expect, test } from 'vitest';
import { escapeLine, escapeText, printable, printableJson } from '../../../filters/common/printable.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

test.each([
  ['a control sequence', 'a\u001b[2J', 'a\\u{1b}[2J'],
  ['a C1 control', '\u009b1m', '\\u{9b}1m'],
  ['a direction override', '\u202eevil', '\\u{202e}evil'],
  ['a zero-width space', 'a\u200bb', 'a\\u{200b}b'],
  ['a tag, which is above U+FFFF', '\u{e0041}', '\\u{e0041}'],
  ['an unassigned place among the tags', '\u{e0002}', '\\u{e0002}'],
  ['a lone surrogate', '\ud800', '\\u{d800}'],
  ['a line feed', 'a\nb', 'a\\u{a}b'],
])('%s is spelled out', (_name, text, shown) => {
  expect(escapeLine(text)).toBe(shown);
  expect(printable(text)).toBe(shown);
});

test('text of several lines keeps its lines, and long text says that it was cut', () => {
  expect(escapeText('a\n\tb\r\u202e')).toBe('a\n\tb\\u{d}\\u{202e}');
  expect(printable('abcdef', 3)).toBe('abc…');
});

test('JSON parses to the same value', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (value) => {
      const line = printableJson(JSON.stringify({ value }));
      expect(line).not.toMatch(/[\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      expect(JSON.parse(line)).toEqual({ value });
    }),
    fuzzRuns,
  );
});
