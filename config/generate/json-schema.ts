/** The policy's JSON Schema as editors read it. */
import { policySchema } from '../policy/schema.ts';
import { inputSchemaOf, type JsonSchema } from '../schema-tools.ts';
import { isSchema } from './table.ts';

/** zod writes its own string checks as `format`, which validators in strict mode do not know; the pattern says the same. */
function withoutOwnFormats(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutOwnFormats);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, part]) => !(key === 'format' && part === 'starts_with'))
      .map(([key, part]) => [key, withoutOwnFormats(part)]),
  );
}

export function policyJsonSchema(): JsonSchema {
  const schema = inputSchemaOf(policySchema);
  const rules = schema.properties?.['rules'];
  if (isSchema(rules) && isSchema(rules.items))
    // The check that zod makes in code: exactly one outcome.
    rules.items.oneOf = ['forbid', 'hold', 'allow'].map((outcome) => ({ required: [outcome] }));
  const { $schema, ...rest } = schema;
  const cleaned = withoutOwnFormats(rest);
  return {
    ...($schema === undefined ? {} : { $schema }),
    $id: 'urn:sallyport:schema:policy:v1',
    title: 'Sallyport policy, version 1',
    ...(isSchema(cleaned) ? cleaned : {}),
  };
}
