/** Text of a configuration file: read with a bound, refused where it is not clean UTF-8, and where things stand in it. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { FieldPath, Issue, Result } from './policy/issue.ts';

export type Position = Readonly<{ line: number; column: number }>;
export const noPosition: Position = { line: 0, column: 0 };

/** A parsed document and where its fields are. */
export type Source = Readonly<{
  value: unknown;
  /** Where the field stands; a field that is not there has the position of what should hold it. */
  positionOf(path: FieldPath, at: 'key' | 'value'): Position;
}>;

/** One thing wrong with a value. The message is made only if it is shown: hints cost a search. */
export type Problem = Readonly<{ path: FieldPath; at: 'key' | 'value'; message: () => string }>;

export const fileIssue = (file: string, message: string, position: Position = noPosition): Issue => ({
  file,
  line: position.line,
  column: position.column,
  field: '',
  message,
});

/** Text from a file in a form that a terminal shows harmlessly: control, format and line-separator characters escaped. */
export const printable = (text: string, charsMax = 80): string =>
  (text.length > charsMax ? `${text.slice(0, charsMax)}…` : text).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links',
};

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : '';
}

/**
 * Reads a whole file of at most `bytesMax`. O_NONBLOCK and the check for a regular file keep a FIFO or a
 * device from hanging or feeding the process without end.
 */
export function readText(file: string, bytesMax: number): Result<string> {
  const refuse = (message: string): Result<string> => ({ ok: false, issues: [fileIssue(file, message)] });
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) return refuse('cannot read it: it is not a regular file');
    if (stat.size > bytesMax) return refuse(`it has ${stat.size} bytes; the limit is ${bytesMax}`);
    const bytes = Buffer.alloc(Math.min(bytesMax + 1, stat.size + 1024));
    let length = 0;
    for (;;) {
      const read = readSync(descriptor, bytes, length, bytes.length - length, null);
      if (read === 0) break;
      length += read;
      if (length === bytes.length) return refuse(`it grew while it was read, or is above ${bytesMax} bytes`);
    }
    return { ok: true, value: new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length)) };
  } catch (thrown) {
    if (thrown instanceof TypeError) return refuse('it is not valid UTF-8');
    const code = codeOf(thrown);
    return refuse(`cannot read it: ${reasons[code] ?? code}`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** What no configuration text may hold. U+FFFD is what a lossy decoder leaves of invalid UTF-8. */
export function textIssue(text: string, file: string, bytesMax: number): Issue | undefined {
  const bytes = Buffer.byteLength(text);
  if (bytes > bytesMax) return fileIssue(file, `it has ${bytes} bytes; the limit is ${bytesMax}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  const index = text.search(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ufffd]|\p{Cs}/u);
  if (index < 0) return undefined;
  const before = text.slice(0, index);
  const position = {
    line: before.split('\n').length,
    column: index - before.lastIndexOf('\n'),
  };
  const code = text.codePointAt(index) ?? 0;
  const found = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  return fileIssue(
    file,
    code === 0xfffd || (code >= 0xd800 && code <= 0xdfff)
      ? `expected valid UTF-8, found ${found}`
      : `expected text without control characters, found ${found}`,
    position,
  );
}
