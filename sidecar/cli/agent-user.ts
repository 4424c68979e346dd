/** Who the agent runs as, and how: another user than the sidecar, with nothing to gain privileges by. */
import { accessSync, chmodSync, chownSync, constants, lstatSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Settings } from '../../config/settings.ts';
import { findUser, type UnixUser } from '../../filters/common/unix-user.ts';
import { CommandFailure, exitCodes } from './output.ts';

/** Istio's proxy user: its redirect rules let this user's traffic out. */
const istioUid = 1337;

/** The agent's user. Refuses those that would undo the separation. */
export function agentUser(settings: Settings['agent'], ownUid: number): UnixUser {
  const find = (name: string, setting: string): UnixUser => {
    const user = findUser(name);
    if (user === undefined)
      throw new CommandFailure(
        `${setting}: there is no user ${JSON.stringify(name)}`,
        'Name one that exists, or a number.',
        exitCodes.usage,
      );
    return user;
  };
  const agent = find(settings.user, 'agent.user');
  const envoy = find(settings.envoy_user, 'agent.envoy_user');
  const refuse = (why: string): never => {
    throw new CommandFailure(
      `agent.user is ${agent.name} (${agent.uid}): ${why}`,
      'Set SALLYPORT_AGENT_USER to a user that has nothing else to do, such as 20201.',
      exitCodes.usage,
    );
  };
  if (agent.uid === ownUid) refuse('the sidecar runs as that user, so the agent could approve its own holds');
  if (agent.uid === envoy.uid) refuse('Envoy runs as that user, so the agent could steer it');
  if (agent.uid === istioUid) refuse('1337 is Istio’s proxy user, whose traffic is not redirected');
  if (agent.uid === 0) refuse('root is confined by nothing');
  return agent;
}

/** HOME and TMPDIR of the agent, its own and nobody else's: beside the state directory, which it may not enter. */
export function agentHome(stateDir: string, user: UnixUser): { home: string; tmp: string } {
  const root = `${stateDir}.agent`;
  mkdirSync(root, { recursive: true, mode: 0o711 });
  chmodSync(root, 0o711);
  const own = (dir: string): string => {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const found = lstatSync(dir);
    if (!found.isDirectory() || (found.uid !== 0 && found.uid !== user.uid))
      throw new CommandFailure(
        `${dir} is not a directory of user ${user.name}`,
        'Remove it; it is made anew.',
      );
    // Only what root has just made is given away: a directory that is the agent's already may hold links.
    if (found.uid !== user.uid) chownSync(dir, user.uid, user.gid);
    return dir;
  };
  const base = own(path.join(root, String(user.uid)));
  return { home: base, tmp: own(path.join(root, `${user.uid}.tmp`)) };
}

const setprivPaths = ['/usr/bin/setpriv', '/bin/setpriv', '/usr/sbin/setpriv'];

export type Launch = Readonly<{ file: string; args: readonly string[]; uid?: number; gid?: number }>;

/** The command as this user, without new privileges: setpriv(1) where there is one, else only other ids. */
export function launchAs(user: UnixUser, program: string, args: readonly string[]): Launch {
  for (const setpriv of setprivPaths) {
    try {
      accessSync(setpriv, constants.X_OK);
    } catch {
      // Not here: the next place, and at last without it.
      continue;
    }
    return {
      file: setpriv,
      args: [
        ...['--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups'],
        ...['--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', '--', program, ...args],
      ],
    };
  }
  return { file: program, args, uid: user.uid, gid: user.gid };
}
