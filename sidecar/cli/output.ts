/** What a command prints: words for a person, or one JSON value on standard output with `--json`. */
import { type ErrorEntry, errors, type SallyportError } from '../../config/errors.ts';
import { printable } from '../../filters/common/printable.ts';

/** Documented exit statuses; `run` gives the command's own. */
export const exitCodes = { ok: 0, failed: 1, usage: 2 } as const;

/** Ends a command with a message for a person and a status. */
export class CommandFailure extends Error {
  readonly exitCode: number;
  readonly next: string;
  constructor(message: string, next = '', exitCode: number = exitCodes.failed) {
    super(message);
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
    this.next = next;
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

/** Text of several lines with each made printable. */
export const printableLines = (text: string): string =>
  text
    .split('\n')
    .map((line) => printable(line, 2_000))
    .join('\n');

export function failureOf(error: SallyportError): CommandFailure & { code: string } {
  const entry: ErrorEntry = errors[error.code];
  return Object.assign(new CommandFailure(error.message, entry.next), { code: error.code });
}

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

/** `4 min 10 s`, for a person. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
