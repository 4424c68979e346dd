/** The admin token: made once, kept 0600 in the state directory, compared in constant time. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../../config/errors.ts';

const tokenBytes = 32;
const tokenShape = /^[A-Za-z0-9_-]{43,512}$/;

export function openToken(stateDir: string): string {
  const file = path.join(stateDir, 'admin.token');
  try {
    writeFileSync(file, `${randomBytes(tokenBytes).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (thrown) {
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'EEXIST')) throw thrown;
    chmodSync(file, 0o600);
  }
  const token = readFileSync(file, 'utf8').trim();
  if (!tokenShape.test(token))
    throw new SallyportError(
      'SettingsInvalid',
      `${file} does not hold a token of 43 or more letters of base64url; remove it and a new one is made`,
    );
  return token;
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** RFC 6750, section 2.1. Digests are compared, so that neither content nor length shows in the time. */
export function bearerMatches(header: string | undefined, token: string): boolean {
  const match = /^Bearer +([A-Za-z0-9._~+/=-]{1,512})$/i.exec(header ?? '');
  return timingSafeEqual(digest(match?.[1] ?? ''), digest(token)) && match !== null;
}
