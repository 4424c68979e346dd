/** What a command prints: words for a person, or one JSON value on standard output with `--json`. */
import { type ErrorEntry, errors, type SallyportError } from '../../config/errors.ts';
import { printable } from '../../filters/common/printable.ts';
import { asTyped } from '../invocation.ts';

/** Documented exit statuses; `run` gives the command's own. */
export const exitCodes = { ok: 0, failed: 1, usage: 2 } as const;

/** Ends a command with a message for a person and a status. Commands of ours in backticks are shown as they are typed here. */
export class CommandFailure extends Error {
  readonly exitCode: number;
  readonly next: string;
  constructor(message: string, next = '', exitCode: number = exitCodes.failed) {
    super(asTyped(message));
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
    this.next = asTyped(next);
  }
}

export type Output = Readonly<{
  json: boolean;
  /** One line for a person, on standard output; nothing with `--json`. */
  line(text?: string): void;
  /** The one value of `--json`; nothing otherwise. */
  value(value: unknown): void;
  /** One line on standard error in either form. */
  note(text: string): void;
}>;

export function createOutput(json: boolean): Output {
  return {
    json,
    line: (text = '') => {
      if (!json) process.stdout.write(`${text}\n`);
    },
    value: (value) => {
      if (json) process.stdout.write(`${JSON.stringify(value)}\n`);
    },
    note: (text) => process.stderr.write(`${text}\n`),
  };
}

/** The reader of a pipe left (EPIPE), or the terminal is gone (EIO): nobody sees what follows. */
const nobodyReads = new Set(['EPIPE', 'EIO']);

/** Whether a write failed because nobody reads the stream any more. */
export const isUnread = (thrown: unknown): boolean =>
  thrown instanceof Error && 'code' in thrown && nobodyReads.has(String(thrown.code));

/** @param isRead false where nobody reads that stream any more; true where it cannot be written (a full disk). */
export type OutputLost = (stream: 'stdout' | 'stderr', isRead: boolean, thrown: Error) => void;

/**
 * A command whose reader left (`… | head`) does its work to the end, and its exit status stands: a check that
 * found errors does not pass because nobody read them all.
 */
let onLost: OutputLost = (stream, isRead, thrown) => {
  if (stream === 'stderr' || !isRead) return;
  process.stderr.write(`sallyport: standard output cannot be written: ${thrown.message}\n`);
  process.exit(exitCodes.failed);
};

/** A command that has more to end than itself says what is done when its output can no longer be written. */
export function whenOutputIsLost(handler: OutputLost): void {
  onLost = handler;
}

/** Once, before anything is written: an error of a standard stream would else end the process where it stands. */
export function watchOutput(): void {
  for (const stream of ['stdout', 'stderr'] as const)
    process[stream].on('error', (thrown: NodeJS.ErrnoException) => onLost(stream, !isUnread(thrown), thrown));
}

/** Text of several lines with each made printable. */
export const printableLines = (text: string): string =>
  text
    .split('\n')
    .map((line) => printable(line, 2_000))
    .join('\n');

export function failureOf(error: SallyportError): CommandFailure & { code: string } {
  const entry: ErrorEntry = errors[error.code];
  // The message names what to correct; no request of a caller's is meant.
  const next = error.code === 'RequestMalformed' ? '' : entry.next;
  return Object.assign(new CommandFailure(error.message, next), { code: error.code });
}

/** A word for a POSIX shell, quoted only where it has to be. */
export const shellWord = (word: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** Names as every `--json` has them. */
export const snakeCased = (value: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(value).map(([key, field]: [string, unknown]) => [
      key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replaceAll('-', '_'),
      field,
    ]),
  );

/** Columns of a table, each as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** `4 min 10 s` or `1 h`, for a person. */
export function duration(ms: number): string {
  const both = (large: number, unit: string, small: number, part: string): string =>
    small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${part}`;
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return both(minutes, 'min', seconds % 60, 's');
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? both(hours, 'h', minutes % 60, 'min')
    : both(Math.floor(hours / 24), 'd', hours % 24, 'h');
}
