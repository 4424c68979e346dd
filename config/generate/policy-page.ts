/** docs/policy.md: what a policy means, and every field of it. */
import { limits } from '../limits.ts';
import { policySchema } from '../policy/schema.ts';
import { inputSchemaOf, type JsonSchema } from '../schema-tools.ts';
import { conditionsSection } from './policy-conditions.ts';
import {
  code,
  defaultWords,
  generatedNote,
  grouped,
  isSchema,
  mappingsOf,
  table,
  typeWords,
} from './table.ts';

/** Parsed by a test, so that what is shown here is valid. */
export const policyExample = `# yaml-language-server: $schema=https://example.org/policy.v1.schema.json
version: 1
agents:
  researcher: { identity: "spiffe://example.org/agent/researcher", users: [20201] }
  deployer: { identity: "spiffe://example.org/agent/deployer", labels: { team: platform } }
hosts:
  code: [api.github.com, "*.githubusercontent.com"]
rules:
  - name: code-read
    to: { hosts: [code], schemes: [https], methods: [GET, HEAD] }
    allow: {}
  - name: code-write
    agents: [deployer]
    to: { hosts: [code], schemes: [https], methods: [POST, PUT, PATCH, DELETE] }
    hold: { approvers: maintainers, wait: 30s, timeout: 4h }
  - name: no-gists
    to: { hosts: [api.github.com], paths: [/gists/**] }
    forbid: { reason: gists are public }
  - name: model
    to: { hosts: [api.openai.com], schemes: [https], methods: [POST], paths: [/v1/chat/completions] }
    when: request.model.max_output_tokens <= 4096
    allow: {}
  - name: search-tools
    to: { hosts: [mcp.example.org], schemes: [https], mcp: { methods: [tools/call], tools: ["search_*"] } }
    allow: {}
  - name: orders-database
    agents: [deployer]
    to: { hosts: [db.shop.internal], ports: [5432], inspect: tunnel, internal: true }
    allow: {}
    mode: shadow
quotas:
  - { name: per-agent, key: [agent], limit: 600, window: 1m }
  - { name: code, to: { hosts: [code] }, key: [agent, host], limit: 5000, window: 1h }
approvers:
  maintainers: { members: [dana, lee, sam], quorum: 2 }
`;

/** Run against the example by a test. */
export const casesExample = `cases:
  - name: reading is allowed
    agent: researcher
    request: { method: GET, url: "https://api.github.com/repos/nodejs/node" }
    expect: { decision: allow, rule: code-read }
  - name: gists are forbidden, whoever asks
    agent: deployer
    request: { method: POST, url: "https://api.github.com/gists" }
    expect: { decision: forbid, rule: no-gists }
  - name: a searching tool may be called
    agent: researcher
    request:
      method: POST
      url: "https://mcp.example.org/"
      headers: { content-type: application/json }
      body: '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs"}}'
    expect: { decision: allow, rule: search-tools }
`;

const meaning = `A policy is one YAML file. It says which agents exist, which destinations they may call, which calls wait
for a person, and how many calls there may be. What no rule allows is denied.

\`sallyport check POLICY\` tells everything that is wrong with a file at once: file, line, column, field, what was
expected and what was found. \`sallyport explain POLICY METHOD URL\` tells which rule decides a request and why
each other one does not. \`sallyport test POLICY\` runs cases. Editors complete and check the file with
[the JSON Schema](schema/policy.v1.schema.json); the first line of the example tells them where it is.

## Example

\`\`\`yaml
${policyExample}\`\`\`

## How a request is decided

1. **Who calls.** The connection is one agent of \`agents\`: by client certificate, proxy credential, Unix user, or
   the one agent of the pod that the settings name. The strongest proof that is there decides alone; a wrong one is
   refused, not passed over. A caller that is none of them is refused. A credential is written as
   \`sha256:\` and the digest of the password, and used as \`http://NAME:PASSWORD@127.0.0.1:10080\`. The digest has no
   salt, so a password that a person chose is guessed from it: generate one of at least 128 bits. This prints a password
   and its digest: \`p=$(openssl rand -hex 32); echo "$p sha256:$(printf %s "$p" | sha256sum | cut -d' ' -f1)"\`
2. **Which rules match.** A rule matches where its \`agents\`, its \`to\` and its \`when\` all do. What a rule leaves out
   does not narrow it.
3. **The strongest outcome wins.** Forbid is stronger than hold, hold stronger than allow. Neither the order of the
   rules nor how narrow they are matters, so a file can be read and merged in any order. Among matching rules of
   the strongest outcome the decision carries the one with the highest quorum, then the first by name.
4. **Nothing matches: denied.**
5. **Quotas.** A call that is allowed, or approved, is then paid from every quota that counts it. One without room
   refuses it, and nothing is taken from the others.

A rule that cannot be evaluated (its condition fails, or needs a body that could not be read) counts as a match
where it forbids or holds, and as no match where it allows. A fault never opens anything.

\`mode: shadow\` keeps a rule from deciding. Each decision records what the rule would have done otherwise.

## Destinations

- \`to\` is compared with the canonical destination: host in lower case and IDNA A-labels without trailing dot, path
  with unreserved characters decoded and without dot segments. A request whose destination can be read in two ways
  (encoded slashes, odd spellings of addresses) is refused before any rule.
- User information in an absolute URL, and a second Host or none beside one, are refused by the embedded data plane.
  Envoy drops them before anything can see them: they reach neither the check nor the destination, and rule, pin
  and destination are those of the URL's host.
- In hosts \`*\` is one label and \`**\` any number of labels, none included: \`**.example.org\` is also \`example.org\`. In
  paths they are segments: \`/gists/**\` is also \`/gists\`. A wildcard is a whole label or segment.
- Wildcards do not stand for addresses; name an address itself. Only a bare \`**\` of a rule that forbids or holds, and
  of a quota, is every address too.
- Rules that forbid or hold, and quotas, also match the path as a lenient server reads it: empty segments dropped
  (\`//gists\`), and characters decoded that a path may carry bare (\`%3A\` as \`:\`). What allows matches the path as it
  is. The reasons are in [decision 0007](decisions/0007-matching-conventions.md).
- A name without a dot in \`hosts\` of a rule is a group of \`hosts\` at the top (or \`localhost\`). A host of one label is
  named through a group: \`hosts: { payments: [payments] }\`. Groups do not stand in groups.
- MCP methods and tools are exact or end in \`*\`. A rule with \`mcp\` matches only a body that is one strict MCP message.
- \`internal: true\` is the one way to an address that is not public (loopback, private, link-local), and only for hosts
  that the same rule names exactly. Without it a name is refused that has one such address among its own. The
  address of a cloud's metadata service is reached only where the rule names that address itself.
- \`inspect: tls\` reads requests inside TLS with a certificate of the sidecar's own authority. \`sni\` passes TLS unread
  and checks the name alone; \`tunnel\` passes any bytes. A rule with methods, paths, \`mcp\` or \`hold\` needs \`tls\`.

## Holds

A held request waits for a person of the group \`approvers\`. An approval is for exactly that request (its method, URL,
headers, body), once, and only while the same rule still decides. Not counted among the headers are those that say
nothing of what the request does, such as \`user-agent\` or \`traceparent\`, and credentials, which are renewed. The caller's connection is kept for \`wait\`; after that it is told to send the same request
again, which goes out once it is approved. After \`timeout\` the hold has timed out, which is neither an approval nor
somebody's no.

## Reload

The file is read again when it changes, by rename or in place. A new text takes effect whole or not at all: while it
is wrong the policy before it holds, and what is wrong is told. Every decision carries the version of its policy, the
first 12 hexadecimal digits of the SHA-256 of the text.

## Cases

\`sallyport test POLICY [CASES]\` asks the rules what they decide, without a sidecar, quotas or name resolution. Without
a second file it takes \`policy.cases.yaml\` or \`cases.yaml\` beside \`policy.yaml\`.

\`\`\`yaml
${casesExample}\`\`\`

\`expect.decision\` is \`allow\`, \`hold\`, \`forbid\`, \`none\` (no rule matches: denied), or \`intercept\` for a CONNECT whose
requests are then read. \`expect.rule\` may be left out. A request has \`method\`, \`url\` (\`host:port\` for CONNECT), and where
it matters \`headers\`, \`body\` or \`mcp\`.
`;

const titles: Readonly<Record<string, string>> = {
  '': 'The file',
  'agents.NAME': 'An agent',
  'routes.NAME': 'A base-URL route',
  'rules[]': 'A rule',
  'rules[].to': 'A destination',
  'rules[].to.mcp': 'MCP',
  'rules[].forbid': 'Forbid',
  'rules[].hold': 'Hold',
  'rules[].allow': 'Allow',
  'quotas[]': 'A quota',
  'approvers.NAME': 'A group of approvers',
};

function section(place: string, schema: JsonSchema): string {
  const rows = Object.entries(schema.properties ?? {}).flatMap(([key, part]) =>
    isSchema(part)
      ? [
          [
            code(key),
            typeWords(part),
            defaultWords(part, schema.required?.includes(key) ?? false),
            part.description ?? '',
          ],
        ]
      : [],
  );
  const heading = `### ${titles[place] ?? place}${place === '' ? '' : ` (${code(place)})`}`;
  return `${heading}\n\n${table(['field', 'type', 'default', 'meaning'], rows)}`;
}

export function policyPage(): string {
  // The destination of a quota has the fields of a rule's, without `inspect` and `internal`.
  const sections = mappingsOf(inputSchemaOf(policySchema)).filter(
    ({ place }) => !place.startsWith('quotas[].to'),
  );
  return [
    generatedNote('config/policy/schema.ts and config/generate/policy-page.ts'),
    '# Policy',
    meaning.trimEnd(),
    conditionsSection.trimEnd(),
    '## Every field',
    'Durations are a whole number and `ms`, `s`, `m`, `h` or `d`. Names are lower-case letters, digits, `.`, `_` and `-`, ' +
      `at most ${limits.policyNameCharsMax} characters. A key that is not listed here is an error. A quota's \`to\` has the ` +
      'fields of a destination without `inspect` and `internal`, and may leave out `hosts`.',
    ...sections.map(({ place, schema }) => section(place, schema)),
    '## Limits',
    table(
      ['what', 'at most'],
      [
        ['bytes of the file', grouped(limits.policyBytesMax)],
        ['YAML tokens', grouped(limits.policyTokensMax)],
        ['rules', grouped(limits.policyRulesMax)],
        ['agents', grouped(limits.policyAgentsMax)],
        ['quotas', grouped(limits.policyQuotasMax)],
        ['hosts of one rule or group', grouped(limits.policyHostsPerRuleMax)],
        ['characters of one condition', grouped(limits.celExpressionCharsMax)],
      ],
    ),
    '',
  ].join('\n\n');
}
