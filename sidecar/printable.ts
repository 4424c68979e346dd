/**
 * Text that an agent chose, made safe for a terminal and for one line of a log: a control character, a line
 * separator or a direction override is shown as `\u{…}` and never obeyed (CWE-117, CWE-150).
 */
// C0, DEL and C1 (U+009B is CSI), soft hyphen, zero-width and bidirectional controls, line and paragraph
// separators, interlinear annotation, byte order mark, tags; lone surrogates cannot be written as UTF-8.
const unsafe =
  /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

export function printable(text: string, charsMax = 512): string {
  const cut = text.length > charsMax ? text.slice(0, charsMax) : text;
  const shown = cut.replace(unsafe, (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`);
  return cut === text ? shown : `${shown}…`;
}

/** The same for a line that is JSON already: escapes that JSON itself allows, so that it parses to the same value. */
export function printableJson(line: string): string {
  return line.replace(unsafe, (char) =>
    char === '\n' || char === '\t'
      ? char
      : Array.from(
          { length: char.length },
          (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`,
        ).join(''),
  );
}
