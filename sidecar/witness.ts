/** Witnesses in both directions, as the settings say: this sidecar for its neighbours' logs, and they for its own. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { SallyportError } from '../config/errors.ts';
import type { Settings } from '../config/settings.ts';
import { listenAddress } from '../config/settings-witness.ts';
import { type KeyRing, noteKeyDrafts } from '../filters/audit/keys.ts';
import { replaceFile } from '../filters/audit/keys-file.ts';
import type { AuditLog } from '../filters/audit/log.ts';
import { consistencyPath } from '../filters/audit/merkle.ts';
import { type NoteKey, parseVkey } from '../filters/audit/note.ts';
import { noteKeyOf, noteSigners } from '../filters/audit/signers.ts';
import { createTileReader } from '../filters/audit/tile-reader.ts';
import { createWitness } from '../filters/audit/witness.ts';
import {
  createWitnessClient,
  type WitnessClient,
  type WitnessedLog,
} from '../filters/audit/witness-client.ts';
import { openWitnessStore, witnessedFile } from '../filters/audit/witness-store.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Part } from './health.ts';
import type { Metrics } from './metrics.ts';
import { witnessPost } from './witness-asking.ts';
import { startWitnessServer, type WitnessServer } from './witness-server.ts';

const fileOrNone = (file: string, setting: string): string | undefined => {
  if (file === '') return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SallyportError('SettingsInvalid', `${setting}: ${file} cannot be read`, { cause });
  }
};

function tokenOf(file: string, setting: string): string | undefined {
  const token = fileOrNone(file, setting)?.trim();
  if (token !== undefined && !/^[A-Za-z0-9._~+/=-]{16,512}$/.test(token))
    throw new SallyportError(
      'SettingsInvalid',
      `${setting}: ${file} has to hold 16 to 512 letters of a token`,
    );
  return token;
}

function keysOf(vkeys: readonly string[], setting: string): readonly NoteKey[] {
  return vkeys.map((vkey, index) => {
    try {
      return parseVkey(vkey);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new SallyportError('SettingsInvalid', `${setting}[${index}]: ${why}`, { cause });
    }
  });
}

/** The witness for other logs; `settings.listen` is not empty. */
export async function startWitness(
  options: Readonly<{
    settings: Settings['witness'];
    keys: KeyRing;
    stateDir: string;
    clock: Clock;
    log: Logger;
    metrics: Pick<Metrics, 'add'>;
  }>,
): Promise<WitnessServer> {
  const { settings, keys, clock, log, metrics } = options;
  const address = listenAddress(settings.listen);
  if (address === undefined)
    throw new SallyportError('SettingsInvalid', `witness.listen ${settings.listen} is no address:port`);
  await keys.ensure('witness', () =>
    noteKeyDrafts(settings.name || `sallyport.internal/witness/${randomBytes(8).toString('hex')}`),
  );
  const label = keys.open('witness').at(-1)?.entry.label;
  if (settings.name !== '' && settings.name !== label)
    throw new SallyportError(
      'SettingsInvalid',
      `witness.name is ${settings.name}, and the witness keys in ${keys.file} are of ${label}: a witness keeps its name`,
    );
  const logs = new Map(
    settings.logs.map(({ origin, vkeys }, index) => [origin, keysOf(vkeys, `witness.logs[${index}].vkeys`)]),
  );
  const witness = createWitness({
    logs,
    signers: () => noteSigners(keys, 'witness'),
    ownKeys: () =>
      keys
        .list()
        .filter(({ name }) => name === 'witness')
        .map(noteKeyOf),
    store: openWitnessStore(path.join(options.stateDir, 'witness')),
    wallMs: clock.wallMs,
  });
  const cert = fileOrNone(settings.cert_file, 'witness.cert_file');
  const key = fileOrNone(settings.key_file, 'witness.key_file');
  const server = await startWitnessServer({
    ...{ witness, clock, log, host: address.host, port: address.port },
    token: tokenOf(settings.token_file, 'witness.token_file'),
    tls:
      cert === undefined || key === undefined
        ? undefined
        : { cert, key, clientCa: fileOrNone(settings.client_ca_file, 'witness.client_ca_file') },
    onAnswer: (status) => metrics.add('witnessRequests', { status: String(status) }),
  });
  log.info(`checkpoints of ${logs.size} logs are cosigned at ${server.url}`);
  return server;
}

export type Witnesses = Readonly<{
  client: WitnessClient;
  health(): Omit<Part, 'name'>;
  stop(): void;
}>;

/** The audit log as its witnesses are shown it. */
const witnessedLog = (log: Pick<AuditLog, 'newest'>, directory: string): WitnessedLog => ({
  newest: () => log.newest()?.note,
  proof: (oldSize, size) => consistencyPath(oldSize, size, createTileReader(directory, size).subtree),
});

/** The witnesses of the own log; there is at least one in the settings. */
export function startWitnesses(
  options: Readonly<{
    settings: Settings['audit'];
    log: Pick<AuditLog, 'newest'>;
    /** Directory of the log. */
    directory: string;
    clock: Clock;
    logger: Logger;
    metrics: Pick<Metrics, 'add'>;
  }>,
): Witnesses {
  const { settings, clock, logger, metrics } = options;
  const log = witnessedLog(options.log, options.directory);
  const { witness_quorum: quorum, witness_every_ms: everyMs } = settings;
  const posts = settings.witnesses.map((one, index) => {
    const at = (field: string): string => `audit.witnesses[${index}].${field}`;
    const post = witnessPost({
      url: one.url,
      token: tokenOf(one.token_file, at('token_file')),
      ca: fileOrNone(one.ca_file, at('ca_file')),
      cert: fileOrNone(one.cert_file, at('cert_file')),
      key: fileOrNone(one.key_file, at('key_file')),
    });
    return { name: one.url, keys: keysOf(one.vkeys, at('vkeys')), post };
  });
  const said = new Map<string, string>();
  const client = createWitnessClient({
    ...{ witnesses: posts, quorum, log, monotonicMs: clock.monotonicMs },
    keep: (note) => replaceFile(path.join(options.directory, witnessedFile), note),
    onError: (err) => logger.error({ err }, 'the witnesses could not be asked'),
    onResult: (witness, { result, detail }) => {
      metrics.add('witnessAnswers', { result });
      // Said when it changes, not at every round.
      if (said.get(witness) === result) return;
      said.set(witness, result);
      const line = `witness ${witness}: ${result === 'cosigned' ? 'cosigns' : detail}`;
      if (result === 'conflict') logger.error(line);
      else if (result === 'cosigned') logger.info(line);
      else logger.warn(line);
    },
  });
  const timer = setInterval(() => void client.round(), everyMs).unref();
  void client.round();
  const health = (): Omit<Part, 'name'> => {
    const states = client.states();
    const conflict = states.find(({ result }) => result === 'conflict');
    if (conflict !== undefined) return { status: 'Degraded', detail: `${conflict.name}: ${conflict.detail}` };
    const good = states.filter(({ result }) => result === 'cosigned').length;
    const counted = `${good} of ${states.length} cosign, ${quorum} have to`;
    // One round may fall between two checkpoints, or on a witness that starts again.
    if (client.lateMs() <= 2 * everyMs) return { status: 'Healthy', detail: counted };
    const failing = states.find(({ result }) => result !== 'cosigned');
    const why = failing === undefined ? '' : `; ${failing.name}: ${failing.detail}`;
    return { status: 'Degraded', detail: `${counted}${why}` };
  };
  return {
    client,
    health,
    stop: () => {
      clearInterval(timer);
      for (const { post } of posts) post.close();
    },
  };
}
