/**
 * What Envoy answers by itself, told as the catalogue's errors. An answer of the sidecar is never rewritten:
 * it has the response code detail `ext_authz_denied`, which no rule here names.
 */
import { type ErrorCode, type ErrorEntry, errors } from '../config/errors.ts';
import { extension, type JsonObject } from './json.ts';

/** CEL over Envoy's attributes → the error. First match wins. */
const replies: readonly (readonly [expression: string, code: ErrorCode])[] = [
  ["response.code_details == 'ext_authz_error'", 'ServiceUnavailable'],
  ["response.code_details == 'request_payload_too_large'", 'RequestTooLarge'],
  ["response.code == 413 && response.code_details != 'ext_authz_denied'", 'RequestTooLarge'],
  ["response.code == 431 && response.code_details != 'ext_authz_denied'", 'HeadersTooLarge'],
  ["response.code_details == 'direct_response' || response.code_details == 'route_not_found'", 'NotFound'],
  ["response.code_details == 'overload' || response.code_details.startsWith('overload')", 'Overloaded'],
  ["response.code_details == 'upgrade_failed'", 'ProtocolNotAllowed'],
  [
    "response.code_details.startsWith('upstream') && response.code_details.contains('CERTIFICATE_VERIFY_FAILED')",
    'UpstreamCertificateInvalid',
  ],
  [
    "response.code_details.startsWith('upstream') || response.code_details.startsWith('no_healthy_upstream')",
    'UpstreamUnreachable',
  ],
  // `OPTIONS *`, or a URL whose query follows its host.
  ["response.code_details == 'absolute_path_rejected'", 'RequestMalformed'],
  ["response.code == 501 && response.code_details.startsWith('http1.')", 'RequestMalformed'],
  ["response.code == 400 && response.code_details != 'ext_authz_denied'", 'RequestMalformed'],
];

const wholeSeconds = (retryAfterMs: number): string => String(Math.max(1, Math.ceil(retryAfterMs / 1_000)));

function mapper(expression: string, code: ErrorCode): JsonObject {
  const entry: ErrorEntry = errors[code];
  const headers: Record<string, string> = { 'cache-control': 'no-store', 'x-sallyport-error': code };
  if (entry.retryAfterMs !== undefined) headers['retry-after'] = wholeSeconds(entry.retryAfterMs);
  return {
    filter: {
      extension_filter: extension(
        'envoy.access_loggers.extension_filters.cel',
        'envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter',
        { expression },
      ),
    },
    status_code: entry.status,
    headers_to_add: Object.entries(headers).map(([key, value]) => ({
      header: { key, value },
      append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
    })),
    body_format_override: {
      content_type: 'application/problem+json',
      json_format: {
        type: `urn:sallyport:error:${code}`,
        title: entry.title,
        status: entry.status,
        detail: entry.title,
        code,
        category: entry.category,
        retry: {
          can_help: entry.retry === 'after',
          ...(entry.retryAfterMs === undefined ? {} : { after_ms: entry.retryAfterMs }),
        },
        next: entry.next,
      },
    },
  };
}

export const localReplies: JsonObject = {
  mappers: replies.map(([expression, code]) => mapper(expression, code)),
};
