/** Reading a zod schema by its JSON Schema: which keys a place knows, and what kind of value it takes. */
import { z } from 'zod';
import type { FieldPath } from './policy/issue.ts';

export type JsonSchema = z.core.JSONSchema.BaseSchema;

/** What a person may write: before defaults and transforms. */
export const inputSchemaOf = (schema: z.ZodType): JsonSchema =>
  z.toJSONSchema(schema, { io: 'input', target: 'draft-2020-12' });

const isSchema = (value: unknown): value is JsonSchema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const asSchema = (value: unknown): JsonSchema | undefined => (isSchema(value) ? value : undefined);

/** The part of the schema that describes the value at this path; undefined where there is none. */
export function schemaAt(root: JsonSchema, path: FieldPath): JsonSchema | undefined {
  let here: JsonSchema | undefined = root;
  for (const part of path) {
    if (here === undefined) return undefined;
    if (typeof part === 'number') {
      here = asSchema(Array.isArray(here.items) ? undefined : here.items);
      continue;
    }
    const known: unknown = Object.hasOwn(here.properties ?? {}, part) ? here.properties?.[part] : undefined;
    here = asSchema(known ?? here.additionalProperties);
  }
  return here;
}

/** The keys that the mapping at this path knows. */
export const keysAt = (root: JsonSchema, path: FieldPath): string[] =>
  Object.keys(schemaAt(root, path)?.properties ?? {});

export type Leaf = Readonly<{ path: readonly string[]; schema: JsonSchema }>;

/** Every field that is not itself a section, in the order of declaration. */
export function leavesOf(root: JsonSchema, path: readonly string[] = []): Leaf[] {
  return Object.entries(root.properties ?? {}).flatMap(([key, value]) => {
    const schema = asSchema(value);
    if (schema === undefined) return [];
    return schema.properties === undefined
      ? [{ path: [...path, key], schema }]
      : leavesOf(schema, [...path, key]);
  });
}

/** The types that a field takes, `null` among them where it may be null. */
export function typesOf(schema: JsonSchema): string[] {
  const alternatives = schema.anyOf?.map(asSchema) ?? [schema];
  return alternatives.flatMap((one) => (one?.type === undefined ? [] : [String(one.type)]));
}
