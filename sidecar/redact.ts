/** What a log may never hold: credentials, by the name of their field or by their shape, and bodies. */
const hidden = '[redacted]';
/** `token`, `secret` and the like anywhere in the name; `tokens` in the plural are counts and pass. */
const hiddenName =
  /authorization|cookie|x-api-key|api_?key|token(?!s)|secret|passw(or)?d|credential|private_?key/i;
/** Bodies are never logged, whatever they hold. */
const bodyName = /^(body|bytes|payload|content|bodyPreview)$/i;
const depthMax = 6;
const entriesMax = 100;

/** A copy of a value that a log may hold. Bounded in depth and breadth, so that nothing an agent sends floods it. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= depthMax) return '[deep]';
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Error) return redactError(value, depth);
  if (value instanceof Date) return value;
  if (Array.isArray(value)) return value.slice(0, entriesMax).map((item) => redact(item, depth + 1));
  const copy: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value).slice(0, entriesMax)) {
    // A flag or a count tells nothing; `secret: null` says that there is none.
    const plain =
      item === null || item === undefined || typeof item === 'boolean' || typeof item === 'number';
    if (!plain && (hiddenName.test(name) || bodyName.test(name))) copy[name] = hidden;
    else copy[name] = redact(item, depth + 1);
  }
  return copy;
}

function redactError(error: Error, depth: number): Record<string, unknown> {
  const copy: Record<string, unknown> = { type: error.name, message: error.message, stack: error.stack };
  if ('code' in error && typeof error.code === 'string') copy['code'] = error.code;
  if (error.cause !== undefined) copy['cause'] = redact(error.cause, depth + 1);
  return copy;
}

const shapes: readonly (readonly [RegExp, string])[] = [
  // RFC 9110, section 11: scheme and token68 in running text.
  [/\b(Bearer|Basic|Digest|Negotiate)\s+[A-Za-z0-9._~+/=-]{4,}/gi, `$1 ${hidden}`],
  // RFC 3986, section 3.2.1: userinfo.
  [/:\/\/[^\s/"@\\]{1,512}@/g, `://${hidden}@`],
  [
    /([?&;][\w.-]{0,64}(?:token|secret|passw(?:or)?d|api_?key|signature|credential)[\w.-]{0,64}=)[^&\s"\\;]+/gi,
    `$1${hidden}`,
  ],
];

/** Credentials by their shape, in a whole line: what no field name gave away. */
export function redactLine(line: string): string {
  let clean = line;
  for (const [shape, replacement] of shapes) clean = clean.replace(shape, replacement);
  return clean;
}
