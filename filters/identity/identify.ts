/**
 * Who calls. The strongest proof that is there decides alone: a proof that is there and wrong is a denial,
 * never a reason to try a weaker one.
 */
import { LRUCache } from 'lru-cache';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { printable } from '../../config/source.ts';
import type { Agent, Call } from '../facts.ts';
import type { CompiledPolicy } from '../policy/compiled.ts';
import { readCredential } from './credential.ts';
import { certificateProof, credentialProof, podProof, readProof, userProof } from './proof.ts';
import type { UnixUsers } from './unix-users.ts';

export type IdentifyOptions = Readonly<{
  /** Name of the agent that every connection of this pod is unless something stronger says otherwise; or empty. */
  podAgent: string;
  /** User of the data plane itself: what it sends to itself is nobody’s. */
  planeUid?: number | undefined;
  users: UnixUsers;
}>;

/** What identity asks of a policy. */
export type KnownAgents = Pick<
  CompiledPolicy,
  'agent' | 'agentByUser' | 'agentBySpiffeId' | 'credentialMatches' | 'credentialsOf' | 'usesUnixUsers'
>;

type Known = Omit<Agent, 'by'>;

/** Order: CONNECT around the request, client certificate, proxy credential, Unix user, pod. @throws InvalidAgent. */
export function identify(call: Call, policy: KnownAgents, options: IdentifyOptions): Agent {
  return (
    byTunnel(call, policy, options) ??
    byCertificate(call, policy) ??
    byCredential(call, policy) ??
    byUserOrPod(call, policy, options)
  );
}

/**
 * Inside a tunnel the agent is the one that the CONNECT check found; what the request inside carries is meant
 * for the destination. A tunnel without an agent is refused rather than asked again by weaker means, and so is
 * one whose CONNECT would not be this agent's any more.
 */
function byTunnel(call: Call, policy: KnownAgents, options: IdentifyOptions): Agent | undefined {
  const { tunnelAgent, tunnelAuthority } = call.connection;
  if (tunnelAgent === '' && tunnelAuthority === '') return undefined;
  if (tunnelAgent === '') return unknown('the CONNECT around this request found no agent');
  const agent = known(
    policy.agent(tunnelAgent),
    'tunnel',
    asked(call, tunnelAgent) ?? 'the agent of this tunnel is not in the policy that holds now',
  );
  // AuthZEN names its subject here, and no tunnel.
  if (tunnelAuthority !== '' && !isStillKnown(call, agent, policy, options))
    return unknown(
      'the policy that holds now does not know the agent of this tunnel by what its CONNECT had',
    );
  return agent;
}

function isStillKnown(
  call: Call,
  { name, id }: Known,
  policy: KnownAgents,
  options: IdentifyOptions,
): boolean {
  const { tunnelProof } = call.connection;
  const proof = readProof(tunnelProof);
  switch (proof?.kind) {
    case undefined:
      return false;
    case 'certificate':
      return tunnelProof === certificateProof(id);
    case 'credential':
      return policy.credentialsOf(name).some((sha256) => tunnelProof === credentialProof(name, sha256));
    case 'user-or-pod':
      return byUserOrPod(call, policy, options, proof.uid).name === name;
  }
}

function byCertificate(call: Call, policy: KnownAgents): Agent | undefined {
  const { connection } = call;
  if (connection.peerSpiffeId === '') return undefined;
  return known(
    policy.agentBySpiffeId(connection.peerSpiffeId),
    'certificate',
    asked(call, connection.peerSpiffeId) ?? 'the SPIFFE ID of the client certificate is not in the policy',
    certificateProof(connection.peerSpiffeId),
  );
}

/** AuthZEN names its subject where others have a tunnel or a certificate (`ext-authz/authzen-schema.ts`). */
const asked = ({ via }: Call, id: string): string | undefined =>
  via === 'authzen'
    ? `subject.id: expected the name or SPIFFE ID of an agent of the policy, found ${printable(JSON.stringify(id))}`
    : undefined;

function byCredential(call: Call, policy: KnownAgents): Agent | undefined {
  const header = call.headers['proxy-authorization'];
  if (header === undefined) return undefined;
  const credential = readCredential(header);
  if (credential.kind === 'invalid') return unknown(credential.reason);
  const agent = policy.agent(credential.name);
  const matches = agent !== undefined && policy.credentialMatches(agent.name, credential.passwordSha256);
  // One message for an unknown name and a wrong password; neither is repeated.
  return known(
    matches ? agent : undefined,
    'credential',
    'the proxy credential is not one of the policy',
    credentialProof(credential.name, credential.passwordSha256),
  );
}

/** @param foundUid the peer's Unix user, where its CONNECT has told it already. */
function byUserOrPod(call: Call, policy: KnownAgents, options: IdentifyOptions, foundUid?: number): Agent {
  let uid: number | undefined;
  const tried = ['no client certificate', 'no proxy credential'];
  if (policy.usesUnixUsers) {
    uid = foundUid ?? userOf(call, options.users);
    // Without an answer the peer may be a user that the policy names, so the pod's agent would be a guess.
    if (uid === undefined) return unknown(`${tried.join(', ')}, and the peer’s Unix user could not be found`);
    if (uid === options.planeUid) return unknown('the peer is the data plane itself');
    const agent = policy.agentByUser(uid);
    if (agent !== undefined) return { ...agent, by: 'user', proof: userProof(uid) };
    tried.push(`Unix user ${uid} is not in the policy`);
  } else tried.push('the policy names no Unix user');
  if (options.podAgent === '') return unknown(`${tried.join(', ')}, and this pod has no agent of its own`);
  return known(
    policy.agent(options.podAgent),
    'pod',
    `${tried.join(', ')}, and the pod’s agent is not in it`,
    podProof(uid),
  );
}

/** One cache for each source of users, so that the process's own lives as long as it does. */
const usersByConnection = new WeakMap<UnixUsers, LRUCache<string, number>>();

function userOf({ connection, via }: Call, users: UnixUsers): number | undefined {
  const { connectionId, sourceAddress, sourcePort } = connection;
  if (connectionId === '') return users.uidOf(sourceAddress, sourcePort);
  let cache = usersByConnection.get(users);
  if (cache === undefined) {
    cache = new LRUCache({ max: limits.connectionUsersMax });
    usersByConnection.set(users, cache);
  }
  // Ids begin anew when a data plane restarts; the peer's address makes a stale entry miss.
  const key = `${via} ${connectionId} ${sourceAddress} ${sourcePort}`;
  const cached = cache.get(key);
  if (cached !== undefined) return cached;
  const uid = users.uidOf(sourceAddress, sourcePort);
  if (uid !== undefined) cache.set(key, uid);
  return uid;
}

function known(agent: Known | undefined, by: Agent['by'], otherwise: string, proof?: string): Agent {
  if (agent === undefined) return unknown(otherwise);
  return proof === undefined ? { ...agent, by } : { ...agent, by, proof };
}

function unknown(tried: string): never {
  throw new SallyportError('InvalidAgent', tried);
}
