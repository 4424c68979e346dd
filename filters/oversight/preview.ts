/** What a person sees of a held request before deciding, and what is kept of it: no secret, nothing that tricks a terminal. */
import { limits } from '../../config/limits.ts';
import { escapeLine, escapeText } from '../common/printable.ts';
import type { Call, Destination } from '../facts.ts';
import { isOfEnvoy } from './envoy-headers.ts';
import type { Hold } from './holds.ts';
import { isSecretName, type Mark, maskForm, maskJson, maskText } from './mask.ts';

type Preview = Hold['request'];

const defaultPorts: Readonly<Record<string, number>> = { http: 80, https: 443 };

function urlOf(call: Call, destination: Destination, mark: Mark): string {
  const { scheme, port } = destination;
  const host = destination.host.includes(':') ? `[${destination.host}]` : destination.host;
  const authority = port === defaultPorts[scheme] ? host : `${host}:${port}`;
  const question = call.path.indexOf('?');
  const path = question < 0 ? call.path : call.path.slice(0, question);
  const query = question < 0 ? '' : `?${maskForm(call.path.slice(question + 1), mark)}`;
  return escapeLine(`${scheme}://${authority}${path}${query}`);
}

/** Headers between data plane and sidecar are nobody's business. */
const isInternal = (name: string): boolean => name.startsWith(':') || name.startsWith('x-sallyport-');

function headerValue(name: string, value: string, mark: Mark): string {
  if (isSecretName(name) || name.startsWith('proxy-')) return mark(value);
  const { holdHeaderPreviewCharsMax: max } = limits;
  const shown = value.length > max ? `${value.slice(0, max)}… (${value.length - max} more)` : value;
  return escapeLine(shown);
}

const headersOf = (call: Call, mark: Mark): Record<string, string> =>
  Object.fromEntries(
    Object.entries(call.headers)
      .filter(([name]) => !isInternal(name) && !isOfEnvoy(name, call.via))
      .map(([name, value]) => [escapeLine(name), headerValue(name, value, mark)]),
  );

/** The text of the bytes; undefined where they are not UTF-8. A byte order mark stays, to be spelled out. */
function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** As much of the text as fits, ending between two characters. */
function cutToBytes(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= bytesMax) return text;
  const more = '…';
  let end = bytesMax - Buffer.byteLength(more);
  // Bytes 10xxxxxx continue a character (RFC 3629, section 3).
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end) + more;
}

function bodyPreview(call: Call, mark: Mark): string {
  if (call.body.kind !== 'whole') return '';
  const text = utf8(call.body.bytes);
  if (text === undefined) return '';
  const { holdBodyPreviewBytesMax: max } = limits;
  const head = text.length > max ? `${text.slice(0, max)}…` : text;
  const type = call.headers['content-type'] ?? '';
  const shown = type.startsWith('application/x-www-form-urlencoded')
    ? maskForm(head, mark)
    : (maskJson(text, max, mark) ?? maskText(head, mark));
  return cutToBytes(escapeText(shown), max);
}

export function previewOf(call: Call, destination: Destination, mark: Mark): Preview {
  const { mcp } = destination;
  return {
    method: escapeLine(call.method),
    url: urlOf(call, destination, mark),
    headers: headersOf(call, mark),
    bodyBytes: call.body.kind === 'whole' ? call.body.bytes.length : 0,
    bodyPreview: bodyPreview(call, mark),
    mcp: mcp.kind === 'call' ? escapeLine(mcp.tool === '' ? mcp.method : `${mcp.method} ${mcp.tool}`) : '',
  };
}
