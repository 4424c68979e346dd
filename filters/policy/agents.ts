/** The agents of a policy by everything that they are known by. */
import { timingSafeEqual } from 'node:crypto';
import type { AgentName, SpiffeId } from '../common/brand.ts';
import type { Steps } from '../common/slices.ts';
import type { Agent } from '../facts.ts';
import type { CompiledPolicy } from './compiled.ts';
import type { Compiler } from './rules.ts';

export type UserLookup = Readonly<{ uidOf(user: string): number | undefined }>;

export type Agents = Pick<
  CompiledPolicy,
  'agent' | 'agentByUser' | 'agentBySpiffeId' | 'credentialMatches' | 'credentialsOf' | 'usesUnixUsers'
>;

type Known = Omit<Agent, 'by'>;

export function* compileAgents(compiler: Compiler, lookup: UserLookup): Steps<Agents> {
  const byName = new Map<string, Known>();
  const bySpiffeId = new Map<string, Known>();
  const byUser = new Map<number, Known>();
  const credentials = new Map<string, readonly Buffer[]>();
  for (const [name, agent] of Object.entries(compiler.parsed.policy.agents)) {
    const known: Known = {
      name: name as AgentName,
      id: agent.identity as SpiffeId,
      labels: Object.freeze({ ...agent.labels }),
    };
    byName.set(name, known);
    bySpiffeId.set(agent.identity, known);
    credentials.set(
      name,
      agent.credentials.map((credential) => Buffer.from(credential.slice('sha256:'.length), 'hex')),
    );
    for (const [index, user] of agent.users.entries()) {
      const path = ['agents', name, 'users', index];
      const uid = typeof user === 'number' ? user : lookup.uidOf(user);
      const other = uid === undefined ? undefined : byUser.get(uid);
      if (uid === undefined)
        compiler.report(path, `expected a Unix user of this machine, found ${JSON.stringify(user)}`);
      else if (other !== undefined && other !== known)
        compiler.report(
          path,
          `expected a user of no other agent, found user id ${uid}, who is agent ${other.name}`,
        );
      else byUser.set(uid, known);
    }
    yield;
  }
  return {
    agent: (name) => byName.get(name),
    agentByUser: (uid) => byUser.get(uid),
    agentBySpiffeId: (id) => bySpiffeId.get(id),
    credentialMatches: (name, sha256Hex) => {
      const given = Buffer.from(sha256Hex, 'hex');
      let matches = false;
      // Every one is compared, so that the time tells nothing of which was near.
      for (const credential of credentials.get(name) ?? [])
        if (given.length === credential.length && timingSafeEqual(given, credential)) matches = true;
      return matches;
    },
    credentialsOf: (name) => (credentials.get(name) ?? []).map((credential) => credential.toString('hex')),
    usesUnixUsers: byUser.size > 0,
  };
}
