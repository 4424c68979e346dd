/**
 * JSON that two readers cannot read differently (RFC 8259; I-JSON, RFC 7493, section 2.3): valid UTF-8, no
 * byte order mark, no member name twice, bounded depth. Anything else is an error, because the upstream
 * might see another value than the condition did.
 */
import { limits } from '../../config/limits.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function parseStrictJson(bytes: Uint8Array): unknown {
  const text = decoder.decode(bytes);
  const value: unknown = JSON.parse(text);
  refuseRepeatedNames(text);
  return value;
}

const quote = 0x22;
const backslash = 0x5c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const comma = 0x2c;

/** `text` is known to be valid JSON, so only the structure has to be followed. */
function refuseRepeatedNames(text: string): void {
  /** One per open container: the names of an object, undefined for an array. */
  const open: (Set<string> | undefined)[] = [];
  let names: Set<string> | undefined;
  let nameNext = false;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      const start = at;
      let escaped = false;
      for (at += 1; text.charCodeAt(at) !== quote; at += 1) {
        if (text.charCodeAt(at) !== backslash) continue;
        escaped = true;
        at += 1;
      }
      if (nameNext && names !== undefined) {
        const name = escaped ? String(JSON.parse(text.slice(start, at + 1))) : text.slice(start + 1, at);
        if (names.has(name)) throw new Error('the body names a member twice');
        names.add(name);
        nameNext = false;
      }
    } else if (code === openBrace || code === openBracket) {
      if (open.length >= limits.mcpDepthMax)
        throw new Error(`the body is nested deeper than ${limits.mcpDepthMax}`);
      open.push(names);
      names = code === openBrace ? new Set() : undefined;
      nameNext = code === openBrace;
    } else if (code === closeBrace || code === closeBracket) {
      names = open.pop();
      nameNext = false;
    } else if (code === comma) {
      nameNext = names !== undefined;
    }
    at += 1;
  }
}
