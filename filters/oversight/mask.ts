/**
 * Makes text fit to be shown and kept: values of secret names become a mark. JSON is masked in its own text, not
 * parsed and written again: a person must see repeated keys and odd numbers as the destination will.
 */
import { createHmac } from 'node:crypto';

/** What stands for a hidden value. */
export type Mark = (value: string) => string;

/**
 * The value's length and the beginning of its HMAC-SHA-256: equal values look equal and others different, and
 * who does not have the key cannot try out what a value was.
 */
export const markWith =
  (key: Uint8Array): Mark =>
  (value) =>
    `•••[${value.length}:${createHmac('sha256', key).update(value).digest('hex').slice(0, 8)}]`;

/** A name's words: split at what is no letter, and at capitals (`apiKey`, `APIKey`). */
const wordsOf = (name: string): string[] =>
  name
    .replace(/([a-z])([A-Z])|([A-Z])(?=[A-Z][a-z])/g, '$1$3 $2')
    .toLowerCase()
    .split(/[^a-z]+/);

/** Whole words, or their ends where a name is written in one (`accesstoken`). */
const secretWord =
  /(?:token|secret|password|passwd|passphrase|authorization|cookie|credential|signature|apikey|accesskey|privatekey)s?$/;
/** `key` alone is the name of a thing more often than a secret; these words make it one. */
const keyWord = /^(?:api|access|private|signing|encryption|master|subscription|account|shared|session|auth)$/;
const shortSecretNames = new Set(['sig', 'pwd', 'auth']);

/** True for `api_key`, `clientSecret` or `X-Auth-Token`, not for `key` or `monkey`; the value of such a name is not shown. */
export function isSecretName(name: string): boolean {
  const words = wordsOf(name);
  return (
    words.some((word, index) => {
      if (secretWord.test(word)) return true;
      return /^keys?$/.test(word) && keyWord.test(words[index - 1] ?? '');
    }) || shortSecretNames.has(name.toLowerCase())
  );
}

/** Percent-decoded as forms do it; a name that cannot be decoded is compared as it stands. */
function decodedName(name: string): string {
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch {
    return name;
  }
}

/** `a=1&token=x` → `a=1&token=•••[1:2d711642]`. */
export const maskForm = (query: string, mark: Mark): string =>
  query
    .split('&')
    .map((pair) => {
      const equals = pair.indexOf('=');
      const name = equals < 0 ? '' : decodedName(pair.slice(0, equals));
      // `?key=` is how some APIs take their key, and `?sig=` their signature.
      if (!isSecretName(name) && !/^(?:key|sig)$/i.test(name)) return pair;
      return `${pair.slice(0, equals + 1)}${mark(pair.slice(equals + 1))}`;
    })
    .join('&');

/** Without the quotes around it. */
const bare = (token: string): string => (/^(["']).*\1$/s.test(token) ? token.slice(1, -1) : token);

const jsonToken = /"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s"[\]{}:,]+|\s+/g;

/** Counts (`max_tokens`) are no secrets. */
const isCount = (name: string, token: string): boolean => /tokens$/i.test(name) && /^-?\d/.test(token);

function unquoted(token: string): string {
  const value: unknown = JSON.parse(token);
  return typeof value === 'string' ? value : '';
}

/**
 * Masks the values of secret names in JSON text, or returns undefined where the text is not JSON. What begins
 * after `charsMax` characters is left out, and `…` says so: masking costs time, and only so much is shown.
 */
export function maskJson(text: string, charsMax: number, mark: Mark): string | undefined {
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  let shown = '';
  // One flag for each open bracket: whether it is an object, whose strings before a colon are names.
  const objects: boolean[] = [];
  let expectsName = false;
  let name: string | undefined;
  /** Depth at which a hidden array or object was opened. */
  let hiddenAt: number | undefined;
  let hiddenFrom = 0;
  for (const { 0: token, index } of text.matchAll(jsonToken)) {
    if (index >= charsMax)
      return hiddenAt === undefined ? `${shown}…` : `${shown}"${mark(text.slice(hiddenFrom))}"…`;
    const wasHidden = hiddenAt !== undefined;
    const isSpace = /^\s/.test(token);
    const isValue = !isSpace && !/^[\]}:,]$/.test(token) && !expectsName;
    if (expectsName && token.startsWith('"')) {
      name = unquoted(token);
      expectsName = false;
      if (!wasHidden) shown += token;
      continue;
    }
    const hides = isValue && !wasHidden && name !== undefined && isSecretName(name) && !isCount(name, token);
    if (token === '{' || token === '[') {
      if (hides) {
        hiddenAt = objects.length;
        hiddenFrom = index;
      }
      objects.push(token === '{');
    }
    if (token === '}' || token === ']') objects.pop();
    if (hides && hiddenAt === undefined) shown += `"${mark(bare(token))}"`;
    else if (!wasHidden && hiddenAt === undefined) shown += token;
    if ((token === '}' || token === ']') && hiddenAt === objects.length) {
      shown += `"${mark(text.slice(hiddenFrom, index + 1))}"`;
      hiddenAt = undefined;
    }
    if (token === '{' || token === ',') expectsName = objects.at(-1) === true;
    if (token === '}') expectsName = false;
    if (isValue || token === ',') name = undefined;
  }
  return shown;
}

/** A name is taken from its beginning only, so that no text makes this slower than its length. */
const assignment = /(?<![\w.-])([\w.-]+)(["']?[^\S\n]{0,8}[:=][^\S\n]{0,8})("[^"\n]*"|'[^'\n]*'|[^\s&,;]+)/g;

/** Text of no known form: what looks like `name: value` or `name=value` is masked by its name. */
export const maskText = (text: string, mark: Mark): string =>
  text.replace(assignment, (whole, name: string, between: string, value: string) =>
    isSecretName(name) ? `${name}${between}${mark(bare(value))}` : whole,
  );
