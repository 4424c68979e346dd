import { expect, test } from 'vitest';
import { z } from 'zod';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { readRequest } from '../../config/request-issues.ts';

const schema = z.strictObject({
  kind: z.enum(['one', 'two']),
  count: z.coerce.number().int().max(9).default(3),
  headers: z.record(z.string(), z.string()).default({}),
  list: z.array(z.int()).default([]),
});

const told = (value: unknown): string => {
  try {
    readRequest(schema, value);
    return '';
  } catch (thrown) {
    if (!(thrown instanceof SallyportError)) throw thrown;
    expect(thrown.code).toBe('RequestMalformed');
    return thrown.message;
  }
};

test('what fits is read, with its defaults', () => {
  expect(readRequest(schema, { kind: 'two' })).toEqual({ kind: 'two', count: 3, headers: {}, list: [] });
});

test.each([
  [{ kind: 'tow' }, 'kind: expected one of "one", "two", found "tow"; did you mean "two"?'],
  [{}, 'kind: missing; expected one of "one", "two"'],
  [{ kind: 'one', count: '12' }, 'count: expected a number of at most 9, found "12"'],
  [{ kind: 'one', list: [1, 'x'] }, 'list[1]: expected a number, found "x"'],
  [
    { kind: 'one', knid: 1 },
    'knid: unknown key; known here: kind, count, headers, list; did you mean "kind"?',
  ],
  [null, 'the request: expected a mapping, found null'],
])('%j is told with field, value and what may stand there', (value, message) => {
  expect(told(value)).toBe(message);
});

test('a value that may be a credential is not repeated, and an odd name cannot reach a terminal', () => {
  expect(told({ kind: 'one', headers: { authorization: ['cAnArY'] } })).not.toContain('cAnArY');
  expect(told({ kind: 'one', 'a\u001b[2J': 1 })).not.toContain('\u001b');
});

test('of many faults the first are told', () => {
  const list = Array.from({ length: 100 }, () => 'x');
  expect(told({ kind: 'one', list }).split('; ')).toHaveLength(limits.requestProblemsShownMax);
});
