/**
 * What Envoy says of a request to its check: the scheme, and whether the client is near (`x-envoy-internal`,
 * `x-envoy-external-address`). A client's own copies are overwritten or removed before the check
 * (`envoy/http-filters.ts`), and all of them are removed before the request leaves (`envoy/routes.ts`), so they
 * are no part of it. From any other data plane these names are the client's, and reach the destination.
 */
import type { Call } from '../facts.ts';

export const isOfEnvoy = (name: string, via: Call['via']): boolean =>
  (via === 'envoy' || via === 'ext_authz') && (name === 'x-forwarded-proto' || name.startsWith('x-envoy-'));
