/**
 * What is known about one request. `Call` is what a data plane saw, untrusted; `Facts` is what the
 * filters made of it. Both planes (Envoy through ext_authz, and the embedded one) produce a `Call`.
 */
import type { AgentName, SpiffeId } from './common/brand.ts';

/**
 * Where in a connection's life the check is made.
 * - `request`: one HTTP request in the clear to the proxy, or inside an intercepted TLS connection.
 * - `connect`: a CONNECT before the tunnel opens; the answer says how the tunnel is treated.
 * - `tunnel`: the first bytes inside a tunnel that is passed unread (`inspect: sni`): the SNI is known.
 */
export type Stage = 'request' | 'connect' | 'tunnel';

/** How a connection to a destination is treated. */
export type Inspect = 'tls' | 'sni' | 'tunnel';

/** What is known of the connection that the request came by. Nothing here was said by the agent itself. */
export type Connection = Readonly<{
  /** Peer address and port as the data plane saw them; empty for a Unix socket. */
  sourceAddress: string;
  sourcePort: number;
  /** Unique within the data plane's process while the connection lives; empty where unknown. Safe as a cache key. */
  connectionId: string;
  /** SPIFFE ID of a client certificate that the data plane verified; empty where there was none. */
  peerSpiffeId: string;
  /** Agent that the CONNECT check of this tunnel found; empty outside a tunnel. */
  tunnelAgent: string;
  /** What that agent was known by (`filters/identity/proof.ts`), as the check told it; empty outside a tunnel. */
  tunnelProof: string;
  /** Authority (`host:port`) of the CONNECT around this request; empty outside a tunnel. */
  tunnelAuthority: string;
  /** SNI of the TLS connection, lower case; empty without TLS. */
  sni: string;
}>;

/** MCP as the data plane read it from the body with its strict settings; `invalid` is never allowed by an MCP rule. */
export type McpCall =
  | Readonly<{ kind: 'none' }>
  | Readonly<{ kind: 'invalid'; reason: string }>
  | Readonly<{ kind: 'call'; method: string; tool: string }>;

export type Body =
  /** The data plane did not read the body: no rule of this destination asked for it. */
  | Readonly<{ kind: 'unread' }>
  /** The whole body, exactly as it will be sent. */
  | Readonly<{ kind: 'whole'; bytes: Uint8Array }>
  /** Larger than the limit: nothing that needs the body may pass. */
  | Readonly<{ kind: 'too-large'; limitBytes: number }>;

export type Call = Readonly<{
  stage: Stage;
  connection: Connection;
  /** Upper case as sent; `CONNECT` in stage `connect`; empty in stage `tunnel`. */
  method: string;
  /** `http` or `https` as the upstream will be spoken to; empty in stages `connect` and `tunnel`. */
  scheme: string;
  /** Host header, `:authority`, or CONNECT target, raw. */
  authority: string;
  /** Origin form with query, raw (`/a?b`); empty in stages `connect` and `tunnel`. */
  path: string;
  /** Names lower case; a repeated header's values joined with `,`. Includes `proxy-authorization` where sent. */
  headers: Readonly<Record<string, string>>;
  body: Body;
  mcp: McpCall;
  /** The request's own id in the data plane (x-request-id), for the log only. */
  requestId: string;
  /** Where the check was asked; `ext_authz`: by an Envoy that is not ours, whose access log nobody here reads. */
  via: 'envoy' | 'ext_authz' | 'embedded' | 'authzen' | 'cli';
}>;

export type Agent = Readonly<{
  name: AgentName;
  /** SPIFFE ID that records carry. */
  id: SpiffeId;
  labels: Readonly<Record<string, string>>;
  /** How the agent was known: for the record. `tunnel`: by the check of the CONNECT around this request. */
  by: 'certificate' | 'credential' | 'user' | 'pod' | 'tunnel';
  /** What it was known by, for the tunnel that its CONNECT opens; absent inside one, and where nobody called. */
  proof?: string;
}>;

/** Who acts for whom, outermost first, the agent itself last. One link until delegation arrives. */
export type DelegationChain = readonly SpiffeId[];

/** The destination in its one canonical spelling. */
export type Destination = Readonly<{
  scheme: 'http' | 'https' | 'tcp';
  /** Lower case, IDNA A-labels, no trailing dot; IPv4 dotted; IPv6 without brackets, RFC 5952. */
  host: string;
  /** Set where `host` is an address literal. */
  hostIsAddress: boolean;
  port: number;
  /** Upper case; `CONNECT` for a tunnel. */
  method: string;
  /** Path for matching: unreserved characters decoded (RFC 3986, section 6.2.2.2), no dot segments, no query. Empty for a tunnel. */
  path: string;
  /** Query string as sent, without `?`. */
  query: string;
  mcp: McpCall;
}>;

/** The resolved and vetted address that the data plane must dial. */
export type Pin = Readonly<{
  address: string;
  port: number;
  /** Why the address may be reached: it is public, or the rule names this host as internal. */
  class: 'public' | 'internal';
}>;
