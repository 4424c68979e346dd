/** `sallyport keys`: with and without a running sidecar. The keys that one runs with are rotated by it alone. */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import { isKeyRingName, keyKinds, openKeyRing } from '../../../filters/audit/keys.ts';
import { readKeys } from '../../../filters/audit/keys-file.ts';
import { type KekSource, kekSource } from '../../../filters/audit/keys-kek.ts';
import { moveKek, type Rewrapped, renewKek } from '../../../filters/audit/keys-rewrap.ts';
import { createClock } from '../../../filters/common/time.ts';
import { type KeyView, viewKeys } from '../../key-view.ts';
import { keysFile, successorOf } from '../../keys.ts';
import { acquireLock } from '../../lock.ts';
import { caller, clientOf, NotRunning } from '../client.ts';
import { CommandFailure, createOutput, exitCodes, type Output, table } from '../output.ts';
import type { Flags } from '../program.ts';
import { type CommandSettings, commandSettings } from '../settings.ts';

/** Only what is shown here; the sidecar tells more (`sidecar/key-view.ts`). */
const shownSchema = z.object({
  file: z.string(),
  kek: z.object({ where: z.string(), weakness: z.string() }),
  keys: z.array(
    z.object({
      ...{ id: z.string(), algorithm: z.string(), state: z.string(), created: z.string(), since: z.string() },
      ...{ revoked: z.boolean(), sealed_by: z.string().nullable(), public: z.string() },
    }),
  ),
});
type Shown = z.output<typeof shownSchema>;

const minutes = (iso: string): string => `${iso.slice(0, 16)}Z`;

function sealedIn(key: Pick<KeyView, 'sealed_by' | 'revoked'>): string {
  if (key.sealed_by !== null) return `sealed by ${key.sealed_by}`;
  return key.revoked ? 'destroyed, revoked' : 'destroyed';
}

function show(output: Output, { file, kek, keys }: Shown): void {
  if (keys.length === 0) output.line(`no key yet: ${file} is made at the first start`);
  else
    for (const row of table([
      ['KEY', 'ALGORITHM', 'STATE', 'SINCE', 'CREATED', 'PRIVATE PART'],
      ...keys.map((key) => [
        key.id,
        key.algorithm,
        key.state,
        minutes(key.since),
        minutes(key.created),
        sealedIn(key),
      ]),
    ]))
      output.line(row);
  output.line();
  output.line(`sealed in ${file}; the key-encryption key is given by ${kek.where}`);
  if (kek.weakness !== '') output.line(`weak: ${kek.weakness}`);
  const known = keys.filter(({ state }) => state !== 'retired');
  for (const key of known) output.line(`${key.id}: ${brief(key.public)}`);
}

/** A key of ML-DSA-44 has 1,752 letters. */
const brief = (text: string): string =>
  text.length <= 200 ? text : `${text.slice(0, 100)}… (all of it with --json)`;

/** The settings of a state directory that is there. */
function settingsHere(flags: Flags): CommandSettings {
  const settings = commandSettings(flags);
  if (existsSync(settings.state_dir)) return settings;
  throw new CommandFailure(
    `there is no state directory ${settings.state_dir}`,
    'Name the state directory of the sidecar with --state-dir; it is made at the first start.',
    exitCodes.usage,
  );
}

const sourceOf = ({ keys, state_dir: stateDir }: CommandSettings): KekSource => kekSource(keys, stateDir);

export function list(flags: Flags): number {
  const output = createOutput(flags.json === true);
  const settings = settingsHere(flags);
  const file = keysFile(settings.state_dir);
  // The file says all of it: nothing is unsealed for this, and no sidecar has to run.
  const shown = viewKeys(file, sourceOf(settings), readKeys(file));
  output.value(shown);
  show(output, { ...shown, keys: [...shown.keys] });
  return exitCodes.ok;
}

async function rotateHere(
  settings: CommandSettings,
  name: keyof typeof keyKinds,
  how: Readonly<{ now: boolean; by: string }>,
): Promise<unknown> {
  const { state_dir: stateDir } = settings;
  // No sidecar starts before it is done.
  const lock = acquireLock(stateDir);
  try {
    const clock = createClock();
    const source = sourceOf(settings);
    const ring = await openKeyRing(keysFile(stateDir), source, clock.wallMs);
    await ring.rotate(name, successorOf(ring, name, clock), how);
    return viewKeys(ring.file, source, ring.list());
  } finally {
    lock.release();
  }
}

export async function rotate(
  name: string,
  flags: Flags & Readonly<{ now?: boolean; by?: string }>,
): Promise<number> {
  const output = createOutput(flags.json === true);
  if (!isKeyRingName(name))
    throw new CommandFailure(
      `there is no key ${name}`,
      `Name one of ${Object.keys(keyKinds).join(', ')}.`,
      exitCodes.usage,
    );
  const settings = settingsHere(flags);
  const how = { now: flags.now === true, by: flags.by ?? caller() };
  let answer: unknown;
  try {
    answer = await clientOf(settings).post(`/v1/keys/${name}/rotate`, how);
  } catch (thrown) {
    if (!(thrown instanceof NotRunning)) throw thrown;
    answer = await rotateHere(settings, name, how);
    output.note('sallyport: no sidecar runs here; the audit record is written at the next start');
  }
  output.value(answer);
  show(output, shownSchema.parse(answer));
  return exitCodes.ok;
}

const wordsSchema = z.array(z.string().min(1)).min(1);

function commandOf(text: string): readonly string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const words = wordsSchema.safeParse(value);
  if (words.success) return words.data;
  throw new CommandFailure(
    '--from-command has to be a JSON list of words',
    `Write it like '["program","argument"]'.`,
    exitCodes.usage,
  );
}

export async function rewrap(
  flags: Flags & Readonly<{ fromFile?: string; fromCommand?: string }>,
): Promise<number> {
  const output = createOutput(flags.json === true);
  const { fromFile, fromCommand } = flags;
  if (fromFile !== undefined && fromCommand !== undefined)
    throw new CommandFailure(
      '--from-file and --from-command exclude each other',
      'Name the place where the key-encryption key was.',
      exitCodes.usage,
    );
  const settings = settingsHere(flags);
  const file = keysFile(settings.state_dir);
  const to = sourceOf(settings);
  let done: Rewrapped;
  if (fromFile === undefined && fromCommand === undefined) done = await renewKek(file, to);
  else {
    const from = {
      kek_file: fromFile ?? '',
      kek_command: fromCommand === undefined ? [] : commandOf(fromCommand),
    };
    done = await moveKek(file, kekSource(from, settings.state_dir), to);
  }
  output.value({ file, ...done, kek: { where: to.where, weakness: to.weakness } });
  output.line(
    `${done.keys.length} keys in ${file} are sealed by ${done.to} now, and no longer by ${done.from}`,
  );
  if (fromFile === undefined && fromCommand === undefined)
    output.line('backups of the time before hold keys sealed by the old one, which is gone with this');
  return exitCodes.ok;
}
