/** Unix users by name or number, from /etc/passwd and then from the name service (`getent`). */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export type UnixUser = Readonly<{ name: string; uid: number; gid: number }>;

function parse(line: string): UnixUser | undefined {
  const [name, , uid, gid] = line.split(':');
  if (name === undefined || !/^\d+$/.test(uid ?? '') || !/^\d+$/.test(gid ?? '')) return undefined;
  return { name, uid: Number(uid), gid: Number(gid) };
}

/** A number that no user has is a user too, in a group of the same number: Unix needs no entry to run as it. */
export function findUser(nameOrNumber: string): UnixUser | undefined {
  const number = /^\d{1,10}$/.test(nameOrNumber) ? Number(nameOrNumber) : undefined;
  if (number !== undefined && number > 4_294_967_294) return undefined;
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const user = parse(line);
    if (user !== undefined && (number === undefined ? user.name === nameOrNumber : user.uid === number))
      return user;
  }
  if (number !== undefined) return { name: String(number), uid: number, gid: number };
  if (!/^[A-Za-z_][\w.@-]{0,63}$/.test(nameOrNumber)) return undefined;
  const found = spawnSync('getent', ['passwd', nameOrNumber], { encoding: 'utf8', timeout: 5_000 });
  return found.status === 0 ? parse(found.stdout.trim()) : undefined;
}
