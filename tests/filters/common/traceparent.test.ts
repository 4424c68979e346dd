/** W3C Trace Context, section 3.2: what is a traceparent and what is as if it had not been sent. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseTraceparent, traceparentOf } from '../../../filters/common/traceparent.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const span = '00f067aa0ba902b7';
const good = `00-${trace}-${span}-01`;

test('its parts', () => {
  expect(parseTraceparent(good)).toEqual({ traceId: trace, spanId: span, sampled: true });
  expect(parseTraceparent(`00-${trace}-${span}-02`)?.sampled).toBe(false);
});

test('of a later version the part that every version has', () => {
  expect(traceparentOf(`cc-${trace}-${span}-01-what-comes`)).toBe(`cc-${trace}-${span}-01`);
});

test.each<readonly [string | undefined, string]>([
  [undefined, 'nothing'],
  ['', 'an empty header'],
  [`ff-${trace}-${span}-01`, 'the forbidden version'],
  [`00-${'0'.repeat(32)}-${span}-01`, 'a trace of zeros'],
  [`00-${trace}-${'0'.repeat(16)}-01`, 'a span of zeros'],
  [good.toUpperCase(), 'capitals'],
  [`${good}-more`, 'more than version 00 has'],
  [`${good}, ${good}`, 'two of them'],
  [` ${good}`, 'a space in front'],
  [`cc-${trace}-${span}-01more`, 'a later version without a hyphen'],
])('%o is none: %s', (header) => {
  expect(traceparentOf(header)).toBeUndefined();
});

test('no text makes it throw, and what it gives is one of 55 characters', () => {
  const near = fc
    .tuple(
      fc.stringMatching(/^[0-9a-f]{2}$/),
      fc.stringMatching(/^[0-9a-f]{32}$/),
      fc.stringMatching(/^[0-9a-f]{16}$/),
      fc.string({ maxLength: 8 }),
    )
    .map((parts) => parts.join('-'));
  fc.assert(
    fc.property(fc.oneof(fc.string(), near), (text) => {
      const found = traceparentOf(text);
      if (found === undefined) return;
      expect([found.length, text.startsWith(found), traceparentOf(found)]).toEqual([55, true, found]);
    }),
    fuzzRuns,
  );
});
