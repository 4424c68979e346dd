/**
 * What a policy needs to have read of a request, against what the data plane read. Its routes may be older than
 * the policy, or have seen another spelling: what forbids by tool or body must not be passed by not looking.
 */
import { SallyportError } from '../config/errors.ts';
import { methodsWithoutMessage } from '../filters/content/mcp.ts';
import type { Call, Destination } from '../filters/facts.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';

/** After an upgrade come bytes that nobody reads. `h2c` is never followed here (RFC 9113, section 3.1). */
export function asksUpgrade(call: Call): boolean {
  const upgrade = call.headers['upgrade'];
  return upgrade !== undefined && upgrade.trim().toLowerCase() !== 'h2c';
}

/**
 * The destination as this policy must see it: where it reads MCP and the data plane did not, the message is
 * invalid. Must be asked again for every policy that evaluates the request.
 * @throws SallyportError ProtocolNotAllowed for an upgrade where MCP or bodies are read
 */
export function readAsNeeded(policy: CompiledPolicy, call: Call, destination: Destination): Destination {
  if (call.stage !== 'request' || call.via === 'cli' || call.via === 'authzen') return destination;
  const needs = policy.needsOf(destination.host, destination.path, destination.method);
  if ((needs.mcp || needs.body) && asksUpgrade(call))
    throw new SallyportError(
      'ProtocolNotAllowed',
      'this path may not be upgraded: rules read its requests, and what follows an upgrade cannot be read',
    );
  if (!needs.mcp || destination.mcp.kind !== 'none') return destination;
  if (methodsWithoutMessage.includes(destination.method)) return destination;
  return { ...destination, mcp: { kind: 'invalid', reason: 'the message was not read as MCP' } };
}
