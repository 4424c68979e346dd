/** docs/configuration.md: every setting, its variable, its default. */
import { type JsonSchema, schemaAt } from '../schema-tools.ts';
import {
  otherVariables,
  type SettingLeaf,
  settingLeaves,
  settingsJsonSchema,
} from '../settings-environment.ts';
import { code, defaultWords, generatedNote, table, typeWords } from './table.ts';

const intro = `Settings are about the process: where it listens, where it keeps state, how it resolves names. What agents may do is
the [policy](policy.md).

A setting is taken from the first place that has it:

1. its environment variable, \`SALLYPORT_\` and the setting's name in upper case, dots as underscores;
2. the settings file;
3. its default.

**The file** is the one given with \`--config\`, else by \`SALLYPORT_CONFIG\`, else \`sallyport.toml\` or \`sallyport.yaml\` in the
working directory, else the same in \`/etc/sallyport\`. Only the first of these places that has one is read; two kinds in
one place are an error. With neither a file nor a policy named, \`sallyport start\` runs the example:
\`config/examples/sallyport.yaml\`. TOML and YAML say the same:

\`\`\`toml
data_plane = "envoy"
[proxy]
port = 10080
[resolver.hosts]
"db.shop.internal" = "10.0.0.7"
\`\`\`

\`\`\`yaml
data_plane: envoy
proxy: { port: 10080 }
resolver: { hosts: { db.shop.internal: 10.0.0.7 } }
\`\`\`

**Variables inside the file.** \`\${NAME}\` in a text value stands for the environment variable \`NAME\`; one that is not set
is an error. \`$\${\` stands for \`\${\`. A number or a switch may come from a variable as well: \`port: "\${PORT}"\`. What came from a
variable is not repeated in error messages.

**Types in the environment.** Switches are \`true\` or \`false\` (\`1\`, \`0\`). Lists are JSON, or values with commas between.
Mappings are JSON objects. \`null\` and the empty text are null where a setting may be null.

An unknown key, an unknown \`SALLYPORT_\` variable and a value out of bounds are errors, all told at once; nothing starts.
Of our variables only ${otherVariables.map(code).join(' and ')} are no settings. Those that Kubernetes makes for a Service
named \`sallyport\` are passed over. Settings are read at start; the policy is what reloads.

**Without effect yet.** \`quota.*\`, \`oversight.timeout_ms\`, \`messaging.*\` and \`runtime.*\` are read and
checked, and used once the parts that they are for are here.`;

const sectionTitles: Readonly<Record<string, string>> = { '': 'General' };

const variableOf = (leaf: SettingLeaf): string => code(leaf.variable);

function section(name: string, leaves: readonly SettingLeaf[]): string {
  const rows = leaves.map((leaf) => [
    code(leaf.path.join('.')),
    variableOf(leaf),
    typeWords(leaf.schema),
    defaultWords(leaf.schema, isRequired(leaf)),
    leaf.schema.description ?? '',
  ]);
  return `## ${sectionTitles[name] ?? code(name)}\n\n${table(['setting', 'variable', 'type', 'default', 'meaning'], rows)}`;
}

function isRequired(leaf: SettingLeaf): boolean {
  const parent: JsonSchema | undefined = schemaAt(settingsJsonSchema, leaf.path.slice(0, -1));
  return parent?.required?.includes(leaf.path.at(-1) ?? '') ?? false;
}

/** A sentence names the seeds' key that its setting answers to. */
function seedRows(): string[][] {
  return settingLeaves.flatMap((leaf) => {
    const seed = /\(seed: ([a-z_.]+)\)/.exec(leaf.schema.description ?? '')?.[1];
    if (seed === undefined) return [];
    const factor = seed.endsWith('_seconds') ? '× 1000' : 'the same';
    return [[code(seed), code(leaf.path.join('.')), factor, code(leaf.schema.default)]];
  });
}

export function configurationPage(): string {
  const names = [
    ...new Set(settingLeaves.map((leaf) => (leaf.path.length === 1 ? '' : (leaf.path[0] ?? '')))),
  ];
  const sections = names.map((name) =>
    section(
      name,
      settingLeaves.filter((leaf) => (leaf.path.length === 1 ? '' : leaf.path[0]) === name),
    ),
  );
  return [
    generatedNote('config/settings.ts and config/generate/configuration-page.ts'),
    '# Configuration',
    intro,
    ...sections,
    '## The seeds’ names\n\nThe keys of the original design under our names. Its seconds are milliseconds here.\n\n' +
      table(['original key', 'setting', 'value', 'default'], seedRows()),
    '',
  ].join('\n\n');
}
