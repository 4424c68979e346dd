/** A call as a data plane hands it over, with what a test cares about replaced. */
import type { Call, Connection } from '../../filters/facts.ts';

export const someConnection: Connection = {
  sourceAddress: '127.0.0.1',
  sourcePort: 50_000,
  connectionId: '',
  peerSpiffeId: '',
  tunnelAgent: '',
  tunnelProof: '',
  tunnelAuthority: '',
  sni: '',
};

export const someCall = (
  changes: Partial<Omit<Call, 'connection'>> & Readonly<{ connection?: Partial<Connection> }> = {},
): Call => ({
  stage: 'request',
  method: 'GET',
  scheme: 'https',
  authority: 'api.example.com',
  path: '/',
  headers: {},
  body: { kind: 'unread' },
  mcp: { kind: 'none' },
  requestId: '',
  via: 'envoy',
  ...changes,
  connection: { ...someConnection, ...changes.connection },
});
