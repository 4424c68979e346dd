/**
 * Text that an agent chose, made safe for a terminal and for one line of a log: a control character, a line
 * separator or a direction override is shown as `\u{…}` and never obeyed (CWE-117, CWE-150).
 */
// Control (C0, DEL, C1; U+009B is CSI) and format characters (zero-width and bidirectional controls, soft hyphen,
// byte order mark, tags), line and paragraph separators; lone surrogates cannot be written as UTF-8. The two ranges
// hold what is unassigned between format characters.
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u2060-\u206f\u{e0000}-\u{e007f}]/gu;
const spelled = (char: string): string => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`;
const isLayout = (char: string): boolean => char === '\n' || char === '\t';

export const escapeLine = (text: string): string => text.replace(unsafe, spelled);

/** The same for text of several lines: line feeds and tabs stay. */
export const escapeText = (text: string): string =>
  text.replace(unsafe, (char) => (isLayout(char) ? char : spelled(char)));

/** One line of at most `charsMax` characters before they are spelled out; `…` says that there were more. */
export function printable(text: string, charsMax = 512): string {
  return text.length > charsMax ? `${escapeLine(text.slice(0, charsMax))}…` : escapeLine(text);
}

/** The same for a line that is JSON already: escapes that JSON itself allows, so that it parses to the same value. */
export function printableJson(line: string): string {
  return line.replace(unsafe, (char) =>
    isLayout(char)
      ? char
      : Array.from(
          { length: char.length },
          (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`,
        ).join(''),
  );
}
