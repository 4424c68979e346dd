/** The journal of a state directory as a command reads it: also without a sidecar, and beside a running one. */
import { openScan, type Scan, type ScanOptions } from '../../filters/common/journal-scan.ts';
import { CommandFailure, exitCodes, type Output } from './output.ts';

/** A command that takes longer than this says how far it is, and again after as long. */
const progressMs = 2_000;

export function journalOf(stateDir: string, options: ScanOptions = {}): Scan {
  let scan: Scan | undefined;
  try {
    scan = openScan(stateDir, options);
  } catch (thrown) {
    throw new CommandFailure(
      `the journal in ${stateDir} cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      'Run this as the user that runs the sidecar.',
      exitCodes.usage,
    );
  }
  if (scan !== undefined) return scan;
  throw new CommandFailure(
    `there is no journal in ${stateDir}`,
    'Name the state directory of the sidecar with --state-dir.',
    exitCodes.usage,
  );
}

const idPattern = /^([a-z]{2,8}_)([0-9A-HJKMNP-TV-Z]{1,26})(?:#[1-9]\d{0,9})?$/i;
const idChars = 26;

/**
 * The whole id of a beginning that only one record's id has. One call of a lease (`dec_…#3`) is on record under its
 * decision. What is no id, and what nothing begins with, is returned as it is: the caller says that it is not there.
 */
export function wholeId(stateDir: string, text: string): string {
  const [, kind = '', start = ''] = idPattern.exec(text) ?? [];
  if (start === '') return text;
  const id = `${kind.toLowerCase()}${start.toUpperCase()}`;
  if (start.length === idChars) return id;
  const found = new Set<string>();
  for (const record of openScan(stateDir, { contains: [Buffer.from(`"id":"${id}`)] })?.records() ?? []) {
    if (typeof record['id'] === 'string' && record['id'].startsWith(id)) found.add(record['id']);
    if (found.size > 5) break;
  }
  const [only = text, ...others] = found;
  if (others.length === 0) return only;
  throw new CommandFailure(
    `${text} is the beginning of several ids: ${[only, ...others].slice(0, 5).join(', ')}${others.length < 5 ? '' : ' …'}`,
    'Give more of the id.',
    exitCodes.usage,
  );
}

/** For `ScanOptions.onProgress`. */
export function progressOn(
  output: Pick<Output, 'note'>,
  nowMs: () => number = () => performance.now(),
): (doneBytes: number, allBytes: number) => void {
  let toldMs = nowMs();
  let calls = 0;
  return (doneBytes, allBytes) => {
    // The clock is looked at once in a while only: this is called for every line.
    calls += 1;
    if (calls % 1_024 !== 0 || nowMs() - toldMs < progressMs) return;
    toldMs = nowMs();
    output.note(`${Math.floor((doneBytes / Math.max(1, allBytes)) * 100)} % of ${mebibytes(allBytes)} read`);
  };
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / (1024 * 1024))} MiB`;

/** What was not read of the journal, in words; nothing where all was. */
export function gapsOf(scan: Scan, since: number): string[] {
  const { beginsMs } = scan;
  const count = (n: number, what: string): string[] => (n === 0 ? [] : [`${n} ${what}`]);
  return [
    ...(beginsMs !== undefined && beginsMs > since
      ? [`the journal begins ${new Date(beginsMs).toISOString()}, after what was asked for`]
      : []),
    ...count(scan.unreadable(), 'lines could not be read'),
    ...count(scan.erased(), 'records are erased, and no one knows what they were'),
  ];
}
