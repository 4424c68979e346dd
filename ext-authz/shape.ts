/** Reading values whose shape somebody else chose. Every reader throws RequestMalformed and names the field. */
import { SallyportError } from '../config/errors.ts';

export type Unknowns = Readonly<Record<string, unknown>>;

export const malformed = (message: string): SallyportError => new SallyportError('RequestMalformed', message);

/** What arrived, in a word: values themselves may be secrets and are never shown. */
const kindOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;

const isRecord = (value: unknown): value is Unknowns =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const none: Unknowns = Object.freeze({});

/** An object, or an empty one where the field is absent. */
export function recordAt(parent: Unknowns, field: string): Unknowns {
  const value = Object.hasOwn(parent, field) ? parent[field] : undefined;
  if (value === undefined || value === null) return none;
  if (!isRecord(value)) throw malformed(`${field} is ${kindOf(value)}; expected an object`);
  return value;
}

export function record(value: unknown, name: string): Unknowns {
  if (!isRecord(value)) throw malformed(`${name} is ${kindOf(value)}; expected an object`);
  return value;
}

/** A string, or an empty one where the field is absent. */
export function textAt(parent: Unknowns, field: string): string {
  const value = Object.hasOwn(parent, field) ? parent[field] : undefined;
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw malformed(`${field} is ${kindOf(value)}; expected text`);
  return value;
}

/** Bytes, or undefined where the field is absent. */
export function bytesAt(parent: Unknowns, field: string): Uint8Array | undefined {
  const value = Object.hasOwn(parent, field) ? parent[field] : undefined;
  if (value === undefined || value === null) return undefined;
  if (!(value instanceof Uint8Array)) throw malformed(`${field} is ${kindOf(value)}; expected bytes`);
  return value;
}

export function listAt(parent: Unknowns, field: string): readonly unknown[] {
  const value = Object.hasOwn(parent, field) ? parent[field] : undefined;
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw malformed(`${field} is ${kindOf(value)}; expected a list`);
  return value;
}

/** A name for a message: quoted, cut, without control characters. */
export const shown = (text: string): string =>
  JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
