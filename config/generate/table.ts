/** Markdown tables, and the words for a field's type, from JSON Schema. */
import { durationPattern } from '../policy/schema.ts';
import type { JsonSchema } from '../schema-tools.ts';

/** A vertical bar would end the cell, also inside code. */
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

export const code = (value: unknown): string =>
  `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;

export const isSchema = (value: unknown): value is JsonSchema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Keeps `1000000` readable without a locale. */
export const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ',');

function range(schema: JsonSchema): string {
  const { minimum, maximum } = schema;
  if (minimum === undefined || maximum === undefined || maximum === Number.MAX_SAFE_INTEGER) return '';
  return `, ${grouped(minimum)} to ${grouped(maximum)}`;
}

export function typeWords(schema: JsonSchema): string {
  if (schema.const !== undefined) return code(schema.const);
  if (schema.enum !== undefined) return schema.enum.map(code).join(', ');
  if (schema.anyOf !== undefined) return schema.anyOf.filter(isSchema).map(typeWords).join(' or ');
  switch (schema.type) {
    case 'array':
      return isSchema(schema.items) ? `list of ${typeWords(schema.items)}` : 'list';
    case 'object':
      return isSchema(schema.additionalProperties)
        ? `names to ${typeWords(schema.additionalProperties)}`
        : 'mapping';
    case 'integer':
      return `whole number${range(schema)}`;
    case 'string':
      return schema.pattern === durationPattern.source ? 'duration' : 'text';
    default:
      return schema.type === 'boolean' ? '`true`, `false`' : String(schema.type ?? 'anything');
  }
}

export function defaultWords(schema: JsonSchema, isRequired: boolean): string {
  if (isRequired) return 'required';
  return schema.default === undefined ? '' : schema.default === '' ? 'empty' : code(schema.default);
}

/** Every mapping with named fields, outermost first: its place (`rules[].to`) and its schema. */
export function mappingsOf(schema: JsonSchema, place = ''): { place: string; schema: JsonSchema }[] {
  const under = (part: unknown, at: string) => (isSchema(part) ? mappingsOf(part, at) : []);
  if (schema.type === 'array') return under(schema.items, `${place}[]`);
  if (schema.properties === undefined) return under(schema.additionalProperties, `${place}.NAME`);
  return [
    { place, schema },
    ...Object.entries(schema.properties).flatMap(([key, part]) =>
      under(part, place === '' ? key : `${place}.${key}`),
    ),
  ];
}

export const generatedNote = (source: string): string =>
  `<!-- Generated from ${source} by \`npm run docs\`. Change it there. -->`;
