/** A journal and its audit log in one state directory, with keys that nobody seals. */
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import type { SallyportError } from '../../config/errors.ts';
import { openIdentity } from '../../filters/audit/identity.ts';
import { type AuditLog, openAuditLog } from '../../filters/audit/log.ts';
import { noteKey, noteTypes, parseVkey } from '../../filters/audit/note.ts';
import { type LogSigners, logSigners, type NoteSigner } from '../../filters/audit/signers.ts';
import { type JournalFile, openJournal } from '../../filters/common/journal-file.ts';
import { linesFrom } from '../../filters/common/journal-lines.ts';
import { movingClock } from './moving-clock.ts';

export const origin = 'example.org/log';

/** A pair of keys as one version of the log's key has them. */
export function somePair(name = origin): readonly NoteSigner[] {
  const ed25519 = generateKeyPairSync('ed25519');
  const mlDsa = generateKeyPairSync('ml-dsa-44');
  return [
    { key: noteKey(name, noteTypes.ed25519, ed25519.publicKey), privateKey: ed25519.privateKey },
    { key: noteKey(name, noteTypes.cosignatureMlDsa44, mlDsa.publicKey), privateKey: mlDsa.privateKey },
  ];
}

export type LogWorld = Readonly<{
  stateDir: string;
  /** Of the audit log. */
  directory: string;
  journal: JournalFile;
  log: AuditLog;
  signers: LogSigners;
  heard: readonly SallyportError[];
  /** The lines of the journal, without line feeds. */
  lines(): Buffer[];
  keys(): ReturnType<typeof parseVkey>[];
  close(): Promise<void>;
}>;

export function openLogWorld(
  stateDir: string,
  pairs: readonly NoteSigner[] = somePair(),
  options: Readonly<{ fileBytesMax?: number }> = {},
): LogWorld {
  const clock = movingClock();
  const heard: SallyportError[] = [];
  const onError = (error: SallyportError): void => {
    heard.push(error);
  };
  const identity = openIdentity(stateDir, origin);
  const signers = logSigners(origin, () => pairs, clock.wallMs);
  const journal = openJournal(stateDir, { clock, onError, ...options });
  let log: AuditLog;
  try {
    log = openAuditLog(stateDir, { journal, identity, signers, clock, onError });
  } catch (thrown) {
    journal.close();
    throw thrown;
  }
  journal.follow(log);
  return {
    ...{ stateDir, journal, log, signers, heard },
    directory: join(stateDir, 'audit'),
    lines: () =>
      [...linesFrom(join(stateDir, 'journal'), undefined)].map(({ bytes }) => bytes ?? Buffer.alloc(0)),
    keys: () => signers.vkeys().map(parseVkey),
    close: async () => {
      journal.close();
      await log.close();
    },
  };
}
