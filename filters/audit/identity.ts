/** What a log is for all its life: its origin, and the key of its pseudonyms. Made once, in `audit/log.json`. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { jsonObject } from '../common/json-object.ts';
import { ensurePrivateDirectory, syncDirectory } from '../common/private-files.ts';
import { readBounded } from './files.ts';
import { isKeyName } from './note.ts';

export type LogIdentity = Readonly<{ origin: string; agentsKey: Buffer }>;

export const auditDirectory = (stateDir: string): string => join(stateDir, 'audit');

const keyBytes = 32;

function decodeIdentity(text: string): LogIdentity | undefined {
  const fields = jsonObject(text);
  if (fields === undefined) return undefined;
  const { v, origin, agents_key } = fields;
  if (v !== 1 || typeof origin !== 'string' || !isKeyName(origin) || typeof agents_key !== 'string')
    return undefined;
  const agentsKey = Buffer.from(agents_key, 'base64');
  return agentsKey.length === keyBytes ? { origin, agentsKey } : undefined;
}

/** Undefined where no log was begun. */
export function readIdentity(stateDir: string): LogIdentity | undefined {
  const path = join(auditDirectory(stateDir), 'log.json');
  const bytes = readBounded(path, limits.auditStateBytesMax);
  if (bytes === undefined) return undefined;
  const identity = decodeIdentity(bytes.toString('utf8'));
  if (identity === undefined) throw new SallyportError('StateUnavailable', `${path} is damaged`);
  return identity;
}

/** `origin` names a log that is to be begun; empty: a name that nobody else has. */
export function openIdentity(stateDir: string, origin: string): LogIdentity {
  const directory = auditDirectory(stateDir);
  ensurePrivateDirectory(directory);
  const known = readIdentity(stateDir);
  if (known !== undefined) {
    if (origin !== '' && origin !== known.origin)
      throw new SallyportError(
        'SettingsInvalid',
        `audit.origin is ${origin}, and the log in ${directory} is ${known.origin}: a log keeps its name; leave the setting empty, or begin another log in another state directory`,
      );
    return known;
  }
  const identity: LogIdentity = {
    origin: origin === '' ? `sallyport.internal/${randomBytes(8).toString('hex')}` : origin,
    agentsKey: randomBytes(keyBytes),
  };
  if (!isKeyName(identity.origin))
    throw new SallyportError(
      'SettingsInvalid',
      `audit.origin ${JSON.stringify(origin)} is no name of a log: 1 to ${limits.noteKeyNameBytesMax} bytes without space and plus`,
    );
  const path = join(directory, 'log.json');
  const fd = openSync(`${path}.tmp`, 'w', 0o600);
  try {
    writeFileSync(
      fd,
      JSON.stringify({ v: 1, origin: identity.origin, agents_key: identity.agentsKey.toString('base64') }),
    );
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.tmp`, path);
  syncDirectory(directory);
  return identity;
}
