/** Sidecars' logs, keys and witnesses as they really are, over loopback; what carries requests is left out. */
import { mkdirSync } from 'node:fs';
import pino from 'pino';
import { settingsSchema } from '../../config/settings.ts';
import { auditDirectory, openIdentity } from '../../filters/audit/identity.ts';
import type { KeyRing } from '../../filters/audit/keys.ts';
import { type AuditLog, openAuditLog } from '../../filters/audit/log.ts';
import { vkeyOf } from '../../filters/audit/note.ts';
import { noteSigners } from '../../filters/audit/signers.ts';
import { type JournalFile, openJournal } from '../../filters/common/journal-file.ts';
import { type Clock, createClock } from '../../filters/common/time.ts';
import { openLogSigners } from '../../sidecar/keys.ts';
import { startWitness, startWitnesses, type Witnesses } from '../../sidecar/witness.ts';
import type { WitnessServer } from '../../sidecar/witness-server.ts';
import { ringIn } from './keys.ts';
import { someDecision } from './some-record.ts';

export const endings: (() => Promise<void> | void)[] = [];
/** Ends what a test opened, the newest first. */
export async function endAll(): Promise<void> {
  for (const end of endings.splice(0).reverse()) await end();
}

export type Instance = {
  name: string;
  stateDir: string;
  ring: KeyRing;
  journal: JournalFile;
  log: AuditLog;
  vkeys: readonly string[];
  origin: string;
  counted: string[];
};
const log = pino({ level: 'silent' });

export async function instance(
  name: string,
  stateDir: string,
  clock: Clock = createClock(),
): Promise<Instance> {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const { origin } = openIdentity(stateDir, '');
  const ring = await ringIn(stateDir, clock.wallMs);
  const signers = await openLogSigners(ring, origin, clock, false);
  const journal = openJournal(stateDir, { clock });
  const audit = openAuditLog(stateDir, {
    ...{ journal, signers, clock, identity: openIdentity(stateDir, '') },
    onError: (error) => {
      throw error;
    },
  });
  journal.follow(audit);
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (!isOpen) return;
    isOpen = false;
    journal.close();
    await audit.close();
  };
  endings.push(close);
  return { name, stateDir, ring, journal, log: audit, vkeys: signers.vkeys(), origin, counted: [] };
}

export const grow = async (one: Instance, count: number, tag = ''): Promise<void> => {
  for (let i = 0; i < count; i += 1) one.journal.append(someDecision({ id: `dec_${tag}${i}` }));
  await one.log.flush();
};

type WitnessChanges = Partial<ReturnType<typeof settingsSchema.parse>['witness']>;

export async function serve(
  witness: Instance,
  logs: readonly Instance[],
  changes: WitnessChanges = {},
  clock = createClock(),
): Promise<WitnessServer> {
  const settings = settingsSchema.parse({
    witness: {
      listen: '127.0.0.1:0',
      logs: logs.map(({ origin, vkeys }) => ({ origin, vkeys: [...vkeys] })),
      ...changes,
    },
  }).witness;
  const server = await startWitness({
    ...{ settings, keys: witness.ring, stateDir: witness.stateDir, clock, log },
    metrics: { add: (_metric, labels) => void witness.counted.push(labels?.['status'] ?? '') },
  });
  endings.push(server.stop);
  return server;
}

export const cosigners = (witness: Instance): string[] =>
  noteSigners(witness.ring, 'witness').map(({ key }) => vkeyOf(key));

type Ask = Partial<{
  quorum: number;
  token_file: string;
  ca_file: string;
  cert_file: string;
  key_file: string;
}>;

export function ask(
  one: Instance,
  witness: Instance,
  url: string,
  { quorum = 1, ...files }: Ask = {},
  clock = createClock(),
): Witnesses & { said: string[] } {
  const settings = settingsSchema.parse({
    audit: {
      witnesses: [{ url, vkeys: cosigners(witness), ...files }],
      witness_quorum: quorum,
      witness_every_ms: 3_600_000,
    },
  }).audit;
  const said: string[] = [];
  const witnesses = startWitnesses({
    ...{ settings, clock, logger: log, directory: auditDirectory(one.stateDir) },
    log: one.log,
    metrics: { add: (_metric, labels) => void said.push(labels?.['result'] ?? '') },
  });
  endings.push(witnesses.stop);
  return { ...witnesses, said };
}
