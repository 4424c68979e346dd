/** Request headers as a check sees them: named, counted, weighed, and ours taken out. */
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { malformed, shown } from './shape.ts';

export type HeaderEntry = readonly [name: string, value: string];

export type ReadHeaders = Readonly<{
  /** What the caller sent: lower-case names, repeated values joined with `,`. No pseudo-header, Host or header of ours. */
  headers: Readonly<Record<string, string>>;
  /** `x-sallyport-*`, by the name after the prefix. */
  ours: ReadonlyMap<string, string>;
  /** `:method`, `:path`, `:authority`, `:scheme` and `host`, each at most once. */
  pseudo: ReadonlyMap<string, string>;
  /** Envoy says that it holds more of the body than it sent. */
  bodyIsPartial: boolean;
}>;

/** Prefix of what only our data plane may say; taken out before the request goes up. */
export const ourPrefix = 'x-sallyport-';
/** Envoy's own mark on a check that carries a body (`ext_authz.with_request_body`). */
const partialBodyHeader = 'x-envoy-auth-partial-body';

/** RFC 9110, section 5.6.2: token, already in lower case. */
const tokenPattern = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** RFC 9110, section 5.5: no control character but HTAB. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
const controlPattern = /[\u0000-\u0008\u000a-\u001f\u007f]/;
/** What UTF-8 decoders put where the bytes were not UTF-8. */
const replacement = '\ufffd';

function assertValue(name: string, value: string): void {
  if (controlPattern.test(value)) throw malformed(`header ${shown(name)} has a control character`);
  if (value.includes(replacement) || !value.isWellFormed()) {
    throw malformed(`header ${shown(name)} is not valid UTF-8`);
  }
}

/** Throws RequestMalformed or HeadersTooLarge; says names and sizes, never a value. */
export function readHeaders(entries: Iterable<HeaderEntry>): ReadHeaders {
  // Without prototype: `constructor` and `__proto__` are header names like any other.
  const headers: Record<string, string> = Object.create(null);
  const ours = new Map<string, string>();
  const pseudo = new Map<string, string>();
  let bodyIsPartial = false;
  let count = 0;
  let bytes = 0;
  for (const [sentName, value] of entries) {
    const name = sentName.toLowerCase();
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
    if (bytes > limits.requestHeaderBytesMax) {
      throw new SallyportError(
        'HeadersTooLarge',
        `the headers weigh more than the limit of ${limits.requestHeaderBytesMax} bytes`,
      );
    }
    assertValue(name, value);
    if (name.startsWith(':') || name === 'host') {
      const before = pseudo.get(name);
      if (before !== undefined) throw malformed(`${shown(name)} is sent more than once`);
      pseudo.set(name, value);
      continue;
    }
    if (!tokenPattern.test(name)) throw malformed(`the header name ${shown(name)} is not a token`);
    if (name.startsWith(ourPrefix)) {
      const key = name.slice(ourPrefix.length);
      if (ours.has(key)) throw malformed(`${shown(name)} is sent more than once`);
      ours.set(key, value);
      continue;
    }
    if (name === partialBodyHeader) {
      // Envoy appends its own to what a client may have sent: one `true` is enough to distrust the body.
      bodyIsPartial ||= value !== 'false';
      continue;
    }
    count += 1;
    if (count > limits.requestHeadersMax) {
      throw new SallyportError(
        'HeadersTooLarge',
        `the request has more headers than the limit of ${limits.requestHeadersMax}`,
      );
    }
    const before = headers[name];
    // RFC 9113, section 8.2.3: the crumbs of a cookie go together with a semicolon.
    const joint = name === 'cookie' ? '; ' : ',';
    headers[name] = before === undefined ? value : `${before}${joint}${value}`;
  }
  assertFraming(headers);
  return { headers, ours, pseudo, bodyIsPartial };
}

/** RFC 9112, section 6.3: two statements of the length are how requests are smuggled. */
function assertFraming(headers: Readonly<Record<string, string>>): void {
  const length = headers['content-length'];
  if (length === undefined) return;
  if (!/^\d{1,15}$/.test(length)) throw malformed('content-length is not one number');
  if (headers['transfer-encoding'] !== undefined) {
    throw malformed('content-length and transfer-encoding are both sent');
  }
}
