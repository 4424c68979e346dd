/** Requests of the OpenID AuthZEN Authorization API 1.0 (sections 5 to 7), and the one way from there to a `Call`. */
import { z } from 'zod';
import { limits } from '../config/limits.ts';
import type { Call, McpCall } from '../filters/facts.ts';
import { readHeaders } from './headers.ts';
import { malformed } from './shape.ts';
import { assertAuthority, assertPath } from './wire-request.ts';

const short = z.string().min(1).max(512);
const mcp = z.object({ method: z.string().min(1).max(128), tool: z.string().max(128).default('') });

/** Members that are not known are left alone, as the specification asks. */
const subject = z.object({
  type: z.literal('agent'),
  id: short.describe('Name of the agent in the policy, or its SPIFFE ID.'),
});
const action = z.object({
  name: z.string().regex(/^[A-Z][A-Z-]{0,31}$/, 'an HTTP method in upper case'),
  properties: z.object({ mcp: mcp.optional() }).optional(),
});
const resource = z.object({
  type: z.literal('url'),
  id: z.string().min(1).max(limits.pathBytesMax),
});
const context = z.object({
  headers: z.record(z.string().max(256), z.string().max(limits.requestHeaderBytesMax)).optional(),
  mcp: mcp.optional(),
  /** The request's body as text. Absent: it has none. */
  body: z.string().max(limits.inspectedBodyBytesMax).optional(),
});

export const evaluationSchema = z.object({ subject, action, resource, context: context.optional() });
export type Evaluation = z.output<typeof evaluationSchema>;

/** Defaults and items are looked at one by one once each item has its defaults (section 7.1.1). */
export const evaluationsSchema = z.object({
  subject: z.unknown().optional(),
  action: z.unknown().optional(),
  resource: z.unknown().optional(),
  context: z.unknown().optional(),
  evaluations: z.array(z.record(z.string(), z.unknown())).max(limits.evaluationsPerRequestMax).optional(),
  options: z
    .object({
      evaluations_semantic: z
        .enum(['execute_all', 'deny_on_first_deny', 'permit_on_first_permit'])
        .default('execute_all'),
    })
    .prefault({}),
});
export type Evaluations = z.output<typeof evaluationsSchema>;

/** RFC 3986, appendix B, without a fragment. Taken apart and not normalised: what is there is what is judged. */
const urlPattern = /^(https?):\/\/([^/?#]*)([^#]*)$/i;

export function callOf(evaluation: Evaluation, requestId: string): Call {
  const match = urlPattern.exec(evaluation.resource.id);
  if (match === null) throw malformed('resource.id: expected an http or https URL without fragment');
  const [, scheme = '', authority = '', rest = ''] = match;
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  assertAuthority(authority);
  assertPath(path);
  const method = evaluation.action.name;
  if (method === 'CONNECT')
    throw malformed('action.name: expected the method of a request inside the tunnel, found "CONNECT"');
  const { id } = evaluation.subject;
  const spiffe = id.startsWith('spiffe://');
  const said = evaluation.action.properties?.mcp ?? evaluation.context?.mcp;
  const mcpCall: McpCall = said === undefined ? { kind: 'none' } : { kind: 'call', ...said };
  return {
    stage: 'request',
    connection: {
      sourceAddress: '',
      sourcePort: 0,
      connectionId: '',
      // The caller holds the admin token: whom it names as the subject is believed like a certificate.
      peerSpiffeId: spiffe ? id : '',
      tunnelAgent: spiffe ? '' : id,
      tunnelProof: '',
      tunnelAuthority: '',
      sni: '',
    },
    method,
    scheme: scheme.toLowerCase(),
    authority,
    path,
    headers: readHeaders(Object.entries(evaluation.context?.headers ?? {})).headers,
    // A caller that names no body says that there is none.
    body: { kind: 'whole', bytes: new TextEncoder().encode(evaluation.context?.body ?? '') },
    mcp: mcpCall,
    requestId,
    via: 'authzen',
  };
}
