/**
 * Makes text fit to be shown and kept: secrets by name become `•••`, and characters that would steer a
 * terminal or turn the reading direction are spelled out. JSON is masked in its own text, not parsed and
 * written again: a person must see repeated keys and odd numbers as the destination will.
 */
export const masked = '•••';

const secretName = /token|secret|key|passw|credential|signature|authorization|cookie/i;
const shortSecretNames = new Set(['sig', 'pwd', 'auth']);

/** True for `api_key` or `X-Auth-Token`; the value of such a name is not shown. */
export const isSecretName = (name: string): boolean =>
  secretName.test(name) || shortSecretNames.has(name.toLowerCase());

/** Control, format (bidirectional overrides and zero-width among them), line separators, lone surrogates. */
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const spelled = (character: string): string => `\\u{${character.codePointAt(0)?.toString(16) ?? ''}}`;

export const escapeLine = (text: string): string => text.replace(unsafe, spelled);

/** The same for text of several lines: line feeds and tabs stay. */
export const escapeText = (text: string): string =>
  text.replace(unsafe, (character) =>
    character === '\n' || character === '\t' ? character : spelled(character),
  );

/** Percent-decoded as forms do it; a name that cannot be decoded is compared as it stands. */
function decodedName(name: string): string {
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch {
    return name;
  }
}

/** `a=1&token=x` → `a=1&token=•••`. */
export const maskForm = (query: string): string =>
  query
    .split('&')
    .map((pair) => {
      const equals = pair.indexOf('=');
      if (equals < 0 || !isSecretName(decodedName(pair.slice(0, equals)))) return pair;
      return `${pair.slice(0, equals)}=${masked}`;
    })
    .join('&');

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
export function maskJson(text: string, charsMax: number): string | undefined {
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
  for (const { 0: token, index } of text.matchAll(jsonToken)) {
    if (index >= charsMax) return `${shown}…`;
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
      if (hides) hiddenAt = objects.length;
      objects.push(token === '{');
    }
    if (token === '}' || token === ']') objects.pop();
    if (hides) shown += `"${masked}"`;
    else if (!wasHidden) shown += token;
    if ((token === '}' || token === ']') && hiddenAt === objects.length) hiddenAt = undefined;
    if (token === '{' || token === ',') expectsName = objects.at(-1) === true;
    if (token === '}') expectsName = false;
    if (isValue || token === ',') name = undefined;
  }
  return shown;
}

/** A name is taken from its beginning only, so that no text makes this slower than its length. */
const assignment = /(?<![\w.-])([\w.-]+)(["']?[^\S\n]{0,8}[:=][^\S\n]{0,8})("[^"\n]*"|'[^'\n]*'|[^\s&,;]+)/g;

/** Text of no known form: what looks like `name: value` or `name=value` is masked by its name. */
export const maskText = (text: string): string =>
  text.replace(assignment, (whole, name: string, between: string) =>
    isSecretName(name) ? `${name}${between}${masked}` : whole,
  );
