/** The part of docs/policy.md about `when`. */
import { limits } from '../limits.ts';
import { code, grouped, table } from './table.ts';

/** What a condition may read. `filters/policy` declares the same to the CEL compiler. */
export const conditionVariables: readonly Readonly<{ name: string; type: string; sentence: string }>[] = [
  { name: 'agent.name', type: 'string', sentence: 'Name of the agent in the policy.' },
  { name: 'agent.id', type: 'string', sentence: 'Its SPIFFE ID.' },
  { name: 'agent.labels', type: 'map(string, string)', sentence: 'Its labels.' },
  { name: 'destination.scheme', type: 'string', sentence: '`http` or `https`.' },
  { name: 'destination.host', type: 'string', sentence: 'Canonical host.' },
  { name: 'destination.port', type: 'int', sentence: 'Port.' },
  { name: 'request.method', type: 'string', sentence: 'HTTP method in upper case.' },
  { name: 'request.path', type: 'string', sentence: 'Canonical path, without the query.' },
  { name: 'request.query', type: 'string', sentence: 'Query as sent, without `?`.' },
  {
    name: 'request.headers',
    type: 'map(string, string)',
    sentence: 'Headers by lower-case name; the values of a repeated one joined with `,`.',
  },
  { name: 'request.body_bytes', type: 'int', sentence: 'Length of the body. Reads the body.' },
  { name: 'request.json', type: 'dyn', sentence: 'The body as JSON. Reads the body.' },
  {
    name: 'request.model.name',
    type: 'string',
    sentence: 'Model that a call to a model names. Reads the body.',
  },
  {
    name: 'request.model.max_output_tokens',
    type: 'int',
    sentence: 'Most output tokens that it asks for. Reads the body.',
  },
  { name: 'request.model.stream', type: 'bool', sentence: 'Whether it asks for a stream. Reads the body.' },
  {
    name: 'request.model.input_bytes',
    type: 'int',
    sentence: 'Length of the call to the model. Reads the body.',
  },
  { name: 'request.mcp.method', type: 'string', sentence: 'MCP method.' },
  { name: 'request.mcp.tool', type: 'string', sentence: 'MCP tool of `tools/call`.' },
  { name: 'now', type: 'timestamp', sentence: 'Time of the decision.' },
];

export const conditionsSection = `## Conditions

\`when\` is an expression of the Common Expression Language (CEL) that must be true for the rule to match. It is
compiled and type-checked when the file is read: a name that does not exist, or a type that does not fit, is an
error with its line. It has no network and no clock but \`now\`, and its cost is bounded: at most
${grouped(limits.celExpressionCharsMax)} characters, ${grouped(limits.celNodesMax)} nodes and ${limits.celLoopsMax} loops (\`all\`, \`exists\`, \`map\`, \`filter\`), none in another and
none over the request; \`matches\` takes a literal pattern, and what is searched for does not come from the request.

${table(
  ['variable', 'type', 'what'],
  conditionVariables.map(({ name, type, sentence }) => [code(name), code(type), sentence]),
)}

A condition that reads the body has the data plane keep the whole body, up to ${grouped(limits.inspectedBodyBytesMax)} bytes, until the
decision; only requests that such a rule may match are kept so. A larger body, or one that is not strict JSON, makes
the condition fail.

What a request does not have makes a condition fail too: an allowing rule then does not match, a forbidding or
holding one does. Ask with \`has\` where absence is fine:

\`\`\`yaml
when: "!has(request.model.max_output_tokens) || request.model.max_output_tokens <= 4096"
when: agent.labels.team == "platform" && request.path.startsWith("/v2/")
when: '"x-dry-run" in request.headers'
when: now.getHours("Europe/Berlin") >= 8 && now.getHours("Europe/Berlin") < 18
\`\`\`
`;
