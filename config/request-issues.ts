/** The shape of what a program asks of an API: read by its schema, or refused with field, value and what is allowed. */
import { z } from 'zod';
import { SallyportError } from './errors.ts';
import { limits } from './limits.ts';
import { type FieldPath, fieldName } from './policy/issue.ts';
import { printable } from './source.ts';
import { problemsOf } from './zod-issues.ts';

/** Headers and bodies may hold credentials, which no message repeats. */
const mayShow = (path: FieldPath): boolean => !path.includes('headers') && !path.includes('body');

/** Throws RequestMalformed naming each wrong field. */
export function readRequest<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const known = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  const told = problemsOf(parsed.error, value, known, mayShow)
    .slice(0, limits.requestProblemsShownMax)
    .map(({ path, message }) => {
      const field = fieldName(path.map((part) => (typeof part === 'number' ? part : printable(part))));
      return `${field === '' ? 'the request' : field}: ${message()}`;
    });
  throw new SallyportError('RequestMalformed', told.join('; '));
}
