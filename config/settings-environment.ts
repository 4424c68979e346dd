/** Settings from environment variables: which variable is which setting, and how its text is read. */
import { hint } from './nearest.ts';
import type { Issue, Result } from './policy/issue.ts';
import { inputSchemaOf, type JsonSchema, leavesOf, typesOf } from './schema-tools.ts';
import { settingsSchema, settingVariable } from './settings.ts';
import { printable } from './source.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Variables of ours that are no settings: the file of the settings, and the admin token for the command line. */
export const otherVariables: readonly string[] = ['SALLYPORT_CONFIG', 'SALLYPORT_TOKEN'];

export const settingsJsonSchema: JsonSchema = inputSchemaOf(settingsSchema);

export type SettingLeaf = Readonly<{ path: readonly string[]; variable: string; schema: JsonSchema }>;

export const settingLeaves: readonly SettingLeaf[] = leavesOf(settingsJsonSchema).map((leaf) => ({
  ...leaf,
  variable: settingVariable(leaf.path),
}));

const byVariable = new Map(settingLeaves.map((leaf) => [leaf.variable, leaf]));

/**
 * Kubernetes puts `SALLYPORT_SERVICE_HOST`, `SALLYPORT_PORT_10080_TCP_ADDR` and more into every pod beside a
 * Service of our name; they are not ours to refuse.
 */
const serviceLink =
  /^SALLYPORT_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;
const serviceUrl = /^(?:tcp|udp|sctp):\/\//;

export type Override = Readonly<{ leaf: SettingLeaf; value: unknown }>;

export const environmentIssue = (variable: string, message: string): Issue => ({
  file: 'environment',
  line: 0,
  column: 0,
  field: printable(variable),
  message,
});

export function readEnvironment(env: Environment): Readonly<{ overrides: Override[]; issues: Issue[] }> {
  const overrides: Override[] = [];
  const issues: Issue[] = [];
  for (const [name, text] of Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (text === undefined || !name.startsWith('SALLYPORT_') || otherVariables.includes(name)) continue;
    const leaf = byVariable.get(name);
    // A Service named `sallyport-proxy` would otherwise set `proxy.port` to `tcp://…`.
    if (serviceLink.test(name) && (leaf === undefined || serviceUrl.test(text))) continue;
    if (leaf === undefined) {
      issues.push(
        environmentIssue(
          name,
          `there is no such setting${hint(name, [...byVariable.keys(), ...otherVariables])}`,
        ),
      );
      continue;
    }
    const value = decode(text, leaf.schema);
    if (value.ok) overrides.push({ leaf, value: value.value });
    else issues.push(environmentIssue(name, value.message));
  }
  return { overrides, issues };
}

type Decoded = Readonly<{ ok: true; value: unknown }> | Readonly<{ ok: false; message: string }>;

/** Text to the type that the setting takes; the bounds are the schema's to check. The text may be secret: it is not told. */
export function decode(text: string, schema: JsonSchema): Decoded {
  const types = typesOf(schema);
  const is = (type: string): boolean => types.includes(type);
  if (is('null') && (text === '' || text === 'null')) return { ok: true, value: null };
  if (is('string')) return { ok: true, value: text };
  if (is('integer') || is('number'))
    return /^[+-]?\d{1,15}$/.test(text)
      ? { ok: true, value: Number(text) }
      : { ok: false, message: `expected a whole number${is('null') ? ' or null' : ''}, found other text` };
  if (is('boolean')) {
    if (text === 'true' || text === '1') return { ok: true, value: true };
    if (text === 'false' || text === '0') return { ok: true, value: false };
    return { ok: false, message: 'expected true or false, found other text' };
  }
  if (is('array') && !text.trimStart().startsWith('['))
    return {
      ok: true,
      value: text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== ''),
    };
  const json = parseJson(text);
  if (!json.ok)
    return {
      ok: false,
      message: is('array') ? 'expected a JSON list, or values with commas between' : 'expected a JSON object',
    };
  return { ok: true, value: json.value };
}

function parseJson(text: string): Result<unknown> {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch {
    return { ok: false, issues: [] };
  }
}
