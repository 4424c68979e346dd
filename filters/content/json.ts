/**
 * Flaws of JSON that `JSON.parse` lets pass: a repeated member and boundless nesting. One pass without
 * recursion; it finds members by the colon behind a string and leaves the grammar to `JSON.parse`.
 */

const colon = /[ \t\r\n]*:/y;

/** @returns what is wrong, or undefined. Text that is not JSON may pass here. */
export function flawOf(text: string, depthMax: number): string | undefined {
  /** Members of each open object; undefined for an open array. */
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at += 1) {
    switch (text[at]) {
      case '{':
      case '[':
        if (open.length === depthMax) return `nested deeper than ${depthMax}`;
        open.push(text[at] === '{' ? new Set() : undefined);
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case '"': {
        const end = closingQuote(text, at);
        if (end === -1) return 'a string without end';
        const token = text.slice(at, end + 1);
        at = end;
        colon.lastIndex = at + 1;
        if (!colon.test(text)) break;
        const member = decoded(token);
        if (member === undefined) return 'a member name that is not a JSON string';
        const members = open.at(-1);
        if (members?.has(member)) return 'a repeated member';
        members?.add(member);
        break;
      }
    }
  }
  return undefined;
}

/** Walks by hand: a regular expression over a string of a megabyte would keep as many ways back. */
function closingQuote(text: string, openingQuote: number): number {
  for (let at = openingQuote + 1; at < text.length; at += 1) {
    if (text[at] === '"') return at;
    if (text[at] === '\\') at += 1;
  }
  return -1;
}

/** `"m\u0065thod"` and `"method"` are one name. */
function decoded(token: string): string | undefined {
  if (!token.includes('\\')) return token.slice(1, -1);
  try {
    const name: unknown = JSON.parse(token);
    return typeof name === 'string' ? name : undefined;
  } catch {
    return undefined;
  }
}
