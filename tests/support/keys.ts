/** A key ring as a sidecar with default settings has it, in a directory that a test gives. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type LiveAuthority, openAuthority } from '../../envoy/authority.ts';
import { type KeyRing, openKeyRing } from '../../filters/audit/keys.ts';
import { kekSource } from '../../filters/audit/keys-kek.ts';
import type { Clock } from '../../filters/common/time.ts';

/** The key-encryption key lies beside the directory, as by default. */
export function ringIn(dir: string, wallMs: () => number = Date.now): Promise<KeyRing> {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return openKeyRing(
    join(dir, 'keys', 'keys.json'),
    kekSource({ kek_file: '', kek_command: [] }, dir),
    wallMs,
  );
}

export const authorityIn = async (dir: string, clock: Clock): Promise<LiveAuthority> =>
  openAuthority(await ringIn(dir, clock.wallMs), clock);
