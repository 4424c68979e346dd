/** Whom Envoy runs as: another user than the sidecar where that one is root, else the sidecar's own. */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SallyportError } from '../config/errors.ts';
import { findUser } from '../filters/common/unix-user.ts';

export type ProcessUser = Readonly<{ uid: number; gid: number }>;

/** Undefined where the sidecar is not root: Envoy is then its own user. */
export function envoyUser(setting: string): ProcessUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const user = findUser(setting);
  if (user === undefined)
    throw new SallyportError('SettingsInvalid', `agent.envoy_user: there is no user ${setting}`);
  if (user.uid === 0)
    throw new SallyportError('SettingsInvalid', `agent.envoy_user is ${setting}: Envoy does not run as root`);
  return { uid: user.uid, gid: user.gid };
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
