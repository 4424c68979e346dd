/** Where spans go and with which headers, and what those settings must agree on. */
import { isIP } from 'node:net';
import type { FieldPath } from './policy/issue.ts';
import type { Settings } from './settings.ts';
import { found } from './zod-issues.ts';

type Must = (holds: boolean, path: FieldPath, message: string) => void;
export type Header = readonly [name: string, value: string];

/** RFC 9110, sections 5.6.2 and 5.5. */
const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
const headerValue = /^[\x20-\x7e\t]*$/;

/** What the exporter says itself, and what is of a connection. */
const ownNames = new Set(['content-type', 'content-length', 'host', 'connection', 'transfer-encoding']);

const isHeader = ([name, value]: Header): boolean =>
  headerName.test(name) && headerValue.test(value) && !ownNames.has(name.toLowerCase());

/** Undefined where the text is no list of headers. It may hold secrets: nothing of it is told. */
export function headersOfList(text: string): Header[] | undefined {
  if (text.trim() === '') return [];
  const headers = text.split(',').map((pair): Header | undefined => {
    const equals = pair.indexOf('=');
    if (equals < 1) return undefined;
    try {
      return [pair.slice(0, equals).trim(), decodeURIComponent(pair.slice(equals + 1).trim())];
    } catch {
      return undefined;
    }
  });
  const read = headers.filter((header) => header !== undefined);
  return read.length === headers.length && read.every(isHeader) ? read : undefined;
}

/** The same of a file: a line each, empty ones and those with `#` in front left out. */
export function headersOfFile(text: string): Header[] | undefined {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const headers = lines.map((line): Header => {
    const colon = line.indexOf(':');
    return [line.slice(0, Math.max(0, colon)).trim(), line.slice(colon + 1).trim()];
  });
  return headers.every(isHeader) ? headers : undefined;
}

/** OTLP/HTTP: the path of the signal is added to the base URL. Undefined for what is no such URL. */
export function tracesUrl(endpoint: string): URL | undefined {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined;
  // Credentials and queries of a URL end up in logs; headers do not.
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') return undefined;
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`;
  return url;
}

export function isLoopbackUrl({ hostname }: URL): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

export function telemetryDisagreements({ telemetry }: Settings, must: Must): void {
  const { endpoint, headers, headers_file: file, ca_file: ca } = telemetry.otlp;
  const path = (name: string): FieldPath => ['telemetry', 'otlp', name];
  const url = tracesUrl(endpoint);
  // A URL with credentials is not told again.
  const shown = /@|\?/.test(endpoint) ? 'one that is not' : found(endpoint);
  must(
    endpoint === '' || url !== undefined,
    path('endpoint'),
    `expected an http or https URL without credentials and query, found ${shown}`,
  );
  must(
    headersOfList(headers) !== undefined,
    path('headers'),
    'expected name=value with commas between; other commas and what is not ASCII percent-encoded',
  );
  const hasHeaders = headers !== '' || file !== '';
  must(
    !hasHeaders || url === undefined || url.protocol === 'https:' || isLoopbackUrl(url),
    path('endpoint'),
    'expected https: headers for the collector are not sent without TLS except over loopback',
  );
  for (const [name, value] of [
    ['headers', headers],
    ['headers_file', file],
    ['ca_file', ca],
  ] as const)
    must(value === '' || endpoint !== '', path(name), 'needs `telemetry.otlp.endpoint`');
}
