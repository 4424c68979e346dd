/** `${VAR}` inside the text values of a settings file. `$${` stands for `${`. */
import { limits } from './limits.ts';
import type { FieldPath } from './policy/issue.ts';
import { schemaAt, typesOf } from './schema-tools.ts';
import { decode, type Environment, settingsJsonSchema } from './settings-environment.ts';
import type { Problem } from './source.ts';

const reference = /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{/g;

export type Expanded = Readonly<{
  value: unknown;
  problems: readonly Problem[];
  /** Names of fields whose text came from a variable: it may be secret and is not shown in messages. */
  secret: ReadonlySet<string>;
}>;

export const secretKey = (path: FieldPath): string => JSON.stringify(path);

export function expandVariables(value: unknown, env: Environment): Expanded {
  const problems: Problem[] = [];
  const secret = new Set<string>();
  let bytesLeft: number = limits.settingsBytesMax;
  const problem = (path: FieldPath, message: string): void => {
    problems.push({ path, at: 'value', message: () => message });
  };

  const expandText = (text: string, path: FieldPath): unknown => {
    let changed = false;
    const expanded = text.replace(reference, (match, name: string | undefined) => {
      if (match === '$${') return '${';
      if (name === undefined) {
        problem(
          path,
          'expected a variable’s name between the braces after `$`; write `$${` where no variable is meant',
        );
        return match;
      }
      const found = env[name];
      if (found === undefined) {
        problem(path, `the variable ${name} is not set`);
        return match;
      }
      changed = true;
      bytesLeft -= found.length;
      return bytesLeft < 0 ? '' : found;
    });
    if (!changed) return expanded;
    secret.add(secretKey(path));
    return typed(expanded, path);
  };
  /** A number or a switch may come from a variable too: `port: ${PORT}`. */
  const typed = (text: string, path: FieldPath): unknown => {
    const schema = schemaAt(settingsJsonSchema, path);
    if (schema === undefined || !typesOf(schema).some((type) => /^(integer|number|boolean)$/.test(type)))
      return text;
    const decoded = decode(text, schema);
    return decoded.ok ? decoded.value : text;
  };
  const expand = (node: unknown, path: FieldPath): unknown => {
    if (typeof node === 'string') return expandText(node, path);
    if (typeof node !== 'object' || node === null || node instanceof Date) return node;
    if (path.length >= limits.settingsDepthMax) {
      problem(path, `expected at most ${limits.settingsDepthMax} levels`);
      return undefined;
    }
    if (Array.isArray(node)) return node.map((item, index) => expand(item, [...path, index]));
    if (Object.hasOwn(node, '__proto__'))
      problem([...path, '__proto__'], 'expected another key than `__proto__`');
    return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, expand(item, [...path, key])]));
  };

  const expanded = expand(value, []);
  if (bytesLeft < 0) problem([], `variables expand to more than ${limits.settingsBytesMax} characters`);
  return { value: expanded, problems, secret };
}
