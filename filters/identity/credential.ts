/** The proxy credential: `Proxy-Authorization: Basic` (RFC 7617) with the agent's name and its password. */
import { hash } from 'node:crypto';
import { limits } from '../../config/limits.ts';

export type Credential =
  | Readonly<{ kind: 'valid'; name: string; passwordSha256: string }>
  | Readonly<{ kind: 'invalid'; reason: string }>;

const basic = /^basic +([A-Za-z0-9+/]+={0,2})$/i;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const invalid = (reason: string): Credential => ({ kind: 'invalid', reason });

/** Only the password's digest leaves; neither name nor password is ever put into a reason. */
export function readCredential(header: string): Credential {
  if (header.length > limits.proxyCredentialBytesMax)
    return invalid(`the proxy credential is longer than ${limits.proxyCredentialBytesMax} bytes`);
  const encoded = basic.exec(header)?.[1];
  // Two headers arrive joined by a comma and fall here.
  if (encoded === undefined || encoded.length % 4 !== 0)
    return invalid('the proxy credential is not one of scheme Basic');
  let text: string;
  try {
    text = utf8.decode(Buffer.from(encoded, 'base64'));
  } catch {
    return invalid('the proxy credential is not UTF-8');
  }
  const colon = text.indexOf(':');
  if (colon === -1) return invalid('the proxy credential has no password');
  return {
    kind: 'valid',
    name: text.slice(0, colon),
    passwordSha256: hash('sha256', text.slice(colon + 1), 'hex'),
  };
}
