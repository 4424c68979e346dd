/** Settings of the process: environment over file over default, every fault told at once. */
import { existsSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { limits } from './limits.ts';
import { type FieldPath, fieldName, type Issue, type Result } from './policy/issue.ts';
import { type Settings, settingsSchema } from './settings.ts';
import {
  type Environment,
  environmentIssue,
  type Override,
  readEnvironment,
  settingLeaves,
  settingsJsonSchema,
} from './settings-environment.ts';
import { expandVariables, secretKey } from './settings-expand.ts';
import { settingDisagreements } from './settings-relations.ts';
import {
  fileIssue,
  noPosition,
  type Problem,
  printable,
  readText,
  type Source,
  textIssue,
} from './source.ts';
import { parseToml } from './toml-source.ts';
import { parseYaml } from './yaml-source.ts';
import { problemsOf } from './zod-issues.ts';

export type LoadedSettings = Readonly<{
  settings: Settings;
  files: readonly string[];
  /** Where the value of each setting is from, by name such as `proxy.port`. */
  sources: Readonly<Record<string, 'environment' | 'file' | 'default'>>;
}>;

export type LoadOptions = Readonly<{
  env: Environment;
  isRoot: boolean;
  home: string;
  cwd: string;
  /** Said on the command line; wins over SALLYPORT_CONFIG. */
  file?: string;
  /** Where the machine's own file is looked for. */
  systemDir?: string;
}>;

export function loadSettings(options: LoadOptions): Result<LoadedSettings> {
  const chosen = findFile(options);
  if (!chosen.ok) return chosen;
  const file = chosen.value;
  if (file === undefined) return settle(emptySource, '', options);
  const text = readText(resolve(options.cwd, file), limits.settingsBytesMax);
  if (!text.ok) return { ok: false, issues: text.issues.map((issue) => ({ ...issue, file })) };
  return decodeSettings(text.value, file, options);
}

/** The text of a settings file, of the kind that its name says, under this environment. Never throws. */
export function decodeSettings(text: string, file: string, options: LoadOptions): Result<LoadedSettings> {
  const unclean = textIssue(text, file, limits.settingsBytesMax);
  if (unclean !== undefined) return { ok: false, issues: [unclean] };
  if (extname(file) === '.toml') {
    const source = parseToml(text, file);
    return source.ok ? settle(source.value, file, options) : source;
  }
  const read = parseYaml(text, file, limits.policyTokensMax);
  if (read.ok) return settle(read.value, file, options);
  return read.rest === undefined ? read : settle(read.rest, file, options, read.issues);
}

const emptySource: Source = { value: {}, positionOf: () => noPosition };
const endings = ['.toml', '.yaml', '.yml'];

/** The first that exists of: the one that is said, ./sallyport.*, /etc/sallyport/sallyport.*. */
function findFile(options: LoadOptions): Result<string | undefined> {
  const said = options.file ?? options.env['SALLYPORT_CONFIG'];
  if (said !== undefined && said !== '')
    return endings.includes(extname(said))
      ? { ok: true, value: said }
      : { ok: false, issues: [fileIssue(said, `expected a name that ends in ${endings.join(', ')}`)] };
  for (const place of [options.cwd, options.systemDir ?? '/etc/sallyport']) {
    const there = endings
      .map((ending) => join(place, `sallyport${ending}`))
      .filter((path) => existsSync(path));
    if (there.length > 1)
      return {
        ok: false,
        issues: [fileIssue(place, `expected one settings file, found ${there.join(' and ')}`)],
      };
    if (there[0] !== undefined) return { ok: true, value: there[0] };
  }
  return { ok: true, value: undefined };
}

/** @param known what was found wrong in the text already. */
function settle(
  source: Source,
  file: string,
  options: LoadOptions,
  known: readonly Issue[] = [],
): Result<LoadedSettings> {
  const environment = readEnvironment(options.env);
  const expanded = expandVariables(source.value ?? {}, options.env);
  const merged = overlay(expanded.value, environment.overrides);
  const parsed = settingsSchema.safeParse(merged);
  const mayShow = (path: FieldPath): boolean =>
    !expanded.secret.has(secretKey(path)) && overriding(path, environment.overrides) === undefined;
  const problems: Problem[] = [
    ...expanded.problems,
    ...(parsed.success ? [] : problemsOf(parsed.error, merged, settingsJsonSchema, mayShow)),
  ];
  const place = (problem: Problem): Issue => {
    const override = overriding(problem.path, environment.overrides);
    if (override !== undefined) return environmentIssue(override.leaf.variable, problem.message());
    const field = fieldName(problem.path.map((part) => (typeof part === 'number' ? part : printable(part))));
    // Without a file the fault is in a default that the machine does not fit.
    return {
      file: file === '' ? 'default' : file,
      ...source.positionOf(problem.path, problem.at),
      field,
      message: problem.message(),
    };
  };
  if (parsed.success && parsed.data.state_dir === '' && !options.isRoot && options.home === '')
    problems.push({
      path: ['state_dir'],
      at: 'value',
      message: () => 'needed, as the user has no home directory',
    });
  const settings = parsed.success ? withDirectories(parsed.data, options) : undefined;
  if (settings !== undefined)
    problems.push(
      ...settingDisagreements(settings).map(
        ({ path, message }): Problem => ({ path, at: 'value', message: () => message }),
      ),
    );
  const shown = problems.slice(0, limits.policyErrorsShownMax);
  const issues = [...environment.issues, ...known, ...shown.map(place)];
  if (shown.length < problems.length) issues.push(fileIssue(file, `${problems.length - shown.length} more`));
  if (settings === undefined || issues.length > 0)
    return { ok: false, issues: issues.sort((a, b) => a.line - b.line || a.column - b.column) };
  return {
    ok: true,
    value: {
      settings,
      files: file === '' ? [] : [file],
      sources: sourcesOf(expanded.value, environment.overrides),
    },
  };
}

/** The override that gave the value at this path, or a value that holds it. */
const overriding = (path: FieldPath, overrides: readonly Override[]): Override | undefined =>
  overrides.find(({ leaf }) => leaf.path.every((part, index) => path[index] === part));

const isSection = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);

/** The file's value with the environment's laid over it. A section that is no mapping stays, for the schema to refuse. */
function overlay(value: unknown, overrides: readonly Override[]): unknown {
  if (!isSection(value)) return value;
  const root = structuredClone(value);
  for (const { leaf, value: override } of overrides) {
    let section = root;
    let reachable = true;
    for (const part of leaf.path.slice(0, -1)) {
      if (!Object.hasOwn(section, part)) section[part] = {};
      const next = section[part];
      if (isSection(next)) section = next;
      else reachable = false;
    }
    const last = leaf.path.at(-1);
    if (reachable && last !== undefined) section[last] = override;
  }
  return root;
}

function sourcesOf(file: unknown, overrides: readonly Override[]): LoadedSettings['sources'] {
  const inFile = (path: readonly string[]): boolean => {
    let value: unknown = file;
    for (const part of path) {
      if (!isSection(value) || !Object.hasOwn(value, part)) return false;
      value = value[part];
    }
    return true;
  };
  const overridden = new Set(overrides.map(({ leaf }) => leaf));
  return Object.fromEntries(
    settingLeaves.map((leaf) => [
      leaf.path.join('.'),
      overridden.has(leaf) ? 'environment' : inFile(leaf.path) ? 'file' : 'default',
    ]),
  );
}

function withDirectories(settings: Settings, options: LoadOptions): Settings {
  const { isRoot, home, cwd } = options;
  const state =
    settings.state_dir || (isRoot ? '/var/lib/sallyport' : join(home, '.local', 'state', 'sallyport'));
  const stateDir = resolve(cwd, state);
  const run = settings.run_dir || (isRoot ? '/run/sallyport' : join(stateDir, 'run'));
  return { ...settings, state_dir: stateDir, run_dir: resolve(cwd, run) };
}
