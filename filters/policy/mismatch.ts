/** The first dimension in which a request is not what a target is for, in words: `sallyport explain`. */
import {
  fits,
  hostFits,
  mcpFits,
  pathFits,
  portFits,
  type Subject,
  type Target,
  type WordPattern,
} from './target.ts';

const shown = 5;

/** `a`, `a or b`, `a, b or c`, `a, b, c, d, e or one of 12 more`. */
export function oneOf(values: Iterable<string | number>): string {
  const all = [...values].map(String);
  const head = all.slice(0, shown);
  const rest = all.length - head.length;
  if (rest > 0) return `${head.join(', ')} or one of ${rest} more`;
  const last = head.pop() ?? 'nothing';
  return head.length === 0 ? last : `${head.join(', ')} or ${last}`;
}

const words = (patterns: readonly WordPattern[]): string =>
  oneOf(patterns.map((pattern) => (pattern.prefix ? `${pattern.text}*` : pattern.text)));

function mcpMismatch(target: Target, subject: Subject): string {
  const call = subject.destination.mcp;
  if (call.kind === 'none') return 'the request is no MCP message';
  if (call.kind === 'invalid') return `the request is no strict MCP message: ${call.reason}`;
  const methods = target.mcp?.methods;
  const tools = target.mcp?.tools;
  if (methods !== undefined && !mcpFits({ ...target, mcp: { methods, tools: undefined } }, call))
    return `MCP method ${call.method} is not ${words(methods)}`;
  if (call.method !== 'tools/call') return `MCP method ${call.method} is not tools/call, which has the tool`;
  return `MCP tool ${call.tool} is not ${words(tools ?? [])}`;
}

function portMismatch(target: Target, scheme: string, port: number): string {
  const wanted =
    typeof target.ports === 'string' ? '80 for http or 443 for https, the default' : oneOf(target.ports);
  return `port ${port} of ${scheme} is not ${wanted}`;
}

/** Undefined exactly where `fits` holds. */
export function mismatch(target: Target, subject: Subject): string | undefined {
  const { destination } = subject;
  if (target.agents !== undefined && !target.agents.has(subject.agent))
    return `agent ${subject.agent} is not ${oneOf(target.agents)}`;
  if (!hostFits(target, subject))
    return `host ${destination.host} is not ${oneOf((target.hosts ?? []).map((pattern) => pattern.text))}`;
  if (target.schemes !== undefined && !target.schemes.has(destination.scheme))
    return `scheme ${destination.scheme} is not ${oneOf(target.schemes)}`;
  if (!portFits(target, destination.scheme, destination.port))
    return portMismatch(target, destination.scheme, destination.port);
  if (target.methods !== undefined && !target.methods.has(destination.method))
    return `method ${destination.method} is not ${oneOf(target.methods)}`;
  if (!pathFits(target, subject))
    return `path ${destination.path} is not ${oneOf((target.paths ?? []).map((pattern) => pattern.text))}`;
  if (!mcpFits(target, destination.mcp)) return mcpMismatch(target, subject);
  return fits(target, subject) ? undefined : 'the request is not what the rule is for';
}
