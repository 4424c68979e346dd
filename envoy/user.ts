/** Whom Envoy runs as: another user than the sidecar where that one is root, else the sidecar's own. */
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SallyportError } from '../config/errors.ts';

export type ProcessUser = Readonly<{ uid: number; gid: number }>;

/** Undefined where the sidecar is not root: Envoy is then its own user. */
export async function envoyUser(setting: string): Promise<ProcessUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const isNumber = /^\d{1,10}$/.test(setting);
  for (const line of (await readFile('/etc/passwd', 'utf8')).split('\n')) {
    const [name, , uid, gid] = line.split(':');
    if (uid === undefined || gid === undefined || (isNumber ? uid : name) !== setting) continue;
    return refuseRoot(setting, { uid: Number(uid), gid: Number(gid) });
  }
  // A number needs no entry to run as; its group has the same number.
  if (isNumber) return refuseRoot(setting, { uid: Number(setting), gid: Number(setting) });
  throw new SallyportError('SettingsInvalid', `agent.envoy_user: there is no user ${setting} in /etc/passwd`);
}

function refuseRoot(setting: string, user: ProcessUser): ProcessUser {
  if (user.uid !== 0) return user;
  throw new SallyportError('SettingsInvalid', `agent.envoy_user is ${setting}: Envoy does not run as root`);
}

const canEnter = (mode: number, owner: { uid: number; gid: number }, user: ProcessUser): boolean =>
  (mode & (owner.uid === user.uid ? 0o100 : owner.gid === user.gid ? 0o010 : 0o001)) !== 0;

/** Throws SettingsInvalid naming the first directory on the way to `path` that the user cannot pass through. */
export async function assertReachable(path: string, user: ProcessUser): Promise<void> {
  const parents: string[] = [];
  for (let dir = dirname(path); ; dir = dirname(dir)) {
    parents.push(dir);
    if (dir === dirname(dir)) break;
  }
  for (const dir of parents.reverse()) {
    const found = await stat(dir);
    if (!canEnter(found.mode, found, user))
      throw new SallyportError(
        'SettingsInvalid',
        `Envoy runs as user ${user.uid}, which cannot enter ${dir} on the way to ${path}: chmod o+x ${dir}, or choose another directory`,
      );
  }
}
