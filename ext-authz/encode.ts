/** Decision → envoy.service.auth.v3.CheckResponse. Only an Allow with its pin becomes an OK. */
import { SallyportError } from '../config/errors.ts';
import type { Allow, Decision } from '../filters/decision.ts';
import type { Inspect, Pin } from '../filters/facts.ts';
import { grpcStatusOf, renderForEnvoy } from './denial.ts';
import { rateLimitHeaders } from './rate-limit.ts';
import type { Decoded } from './wire-request.ts';

export type HeaderChange = Readonly<{
  header: Readonly<{ key: string; value: string }>;
  append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' | 'APPEND_IF_EXISTS_OR_ADD';
}>;

/** google.protobuf.Struct of strings, in the camel case that protobufjs uses for it. */
type StringStruct = Readonly<{ fields: Readonly<Record<string, Readonly<{ stringValue: string }>>> }>;

export type CheckResponse = Readonly<{
  status: Readonly<{ code: number }>;
  dynamic_metadata?: StringStruct;
  ok_response?: Readonly<{
    headers_to_remove: readonly string[];
    response_headers_to_add: readonly HeaderChange[];
  }>;
  denied_response?: Readonly<{
    status: Readonly<{ code: number }>;
    headers: readonly HeaderChange[];
    body: string;
  }>;
}>;

const modes: Readonly<Record<Inspect, string>> = { tls: 'intercept', sni: 'opaque', tunnel: 'tunnel' };

/** A pin as the upstream clusters read it. */
export const dialled = ({ address, port }: Pin): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

/** What the data plane needs of an Allow; throws Internal where it would be left to guess. */
export function grantOf(decoded: Decoded, allow: Allow): Readonly<Record<string, string>> {
  const { call } = decoded;
  const intercepted = call.stage === 'connect' && allow.inspect === 'tls';
  if (!intercepted && allow.pin === undefined) {
    throw new SallyportError('Internal', 'the decision allows the request and pins no address');
  }
  const grant: Record<string, string> = { agent: allow.agent?.name ?? '', decision: allow.id };
  // A pin given for an intercepted CONNECT would outrank the pin of every request inside.
  if (allow.pin !== undefined && !intercepted) {
    grant['dst'] = dialled(allow.pin);
  }
  if (call.stage !== 'request') grant['mode'] = modes[allow.inspect];
  // For the tunnel: what comes through it is asked of the policy of its time by this.
  if (call.stage === 'connect' && allow.agent?.proof !== undefined) grant['proof'] = allow.agent.proof;
  if (allow.hold !== undefined) grant['hold'] = allow.hold;
  return grant;
}

const overwrite = (key: string, value: string): HeaderChange => ({
  header: { key, value },
  append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
});

/** A loop, and no lists of entries: this runs for every check. */
function struct(values: Readonly<Record<string, string>>): StringStruct {
  const fields: Record<string, Readonly<{ stringValue: string }>> = {};
  for (const key in values) fields[key] = { stringValue: values[key] ?? '' };
  return { fields };
}

/** @param decoded undefined where the request could not be read. */
export function encodeCheckResponse(decoded: Decoded | undefined, decision: Decision): CheckResponse {
  if (decision.kind !== 'Allow') {
    const denial = renderForEnvoy(decoded?.call, decision);
    return {
      // Never 0: a denial that is HTTP 200 on the wire (JSON-RPC) is still a denial.
      status: { code: denial.grpcStatus ?? grpcStatusOf(denial.status) },
      dynamic_metadata: struct({ agent: decision.agent?.name ?? '', decision: decision.id }),
      denied_response: {
        status: { code: denial.status },
        headers: Object.entries(denial.headers).map(([key, value]) => overwrite(key, value)),
        body: denial.body,
      },
    };
  }
  if (decoded === undefined)
    throw new SallyportError('Internal', 'a request that was not read cannot be allowed');
  const dynamic_metadata = struct(grantOf(decoded, decision));
  return {
    status: { code: 0 },
    dynamic_metadata,
    ok_response: {
      headers_to_remove: decoded.remove,
      response_headers_to_add: [
        overwrite('x-sallyport-decision', decision.id),
        // Lists (RFC 9651): ours stand beside those of the destination, told apart by the quota's name.
        ...Object.entries(rateLimitHeaders(decision.quotas)).map(
          ([key, value]): HeaderChange => ({
            header: { key, value },
            append_action: 'APPEND_IF_EXISTS_OR_ADD',
          }),
        ),
      ],
    },
  };
}
