/** Client certificates with a SPIFFE ID, as a workload gets them. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { openAuthority } from '../../envoy/authority.ts';
import { createClock } from '../../filters/common/time.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** Signed by the authority that is kept in `dir`. */
export async function clientCertificate(
  dir: string,
  spiffeId: string,
): Promise<{ cert: string; key: string }> {
  await openAuthority(dir, createClock());
  const text = readFileSync(join(dir, 'authority.pem'), 'utf8');
  const at = text.indexOf('-----BEGIN CERTIFICATE');
  const issuer = new x509.X509Certificate(text.slice(at));
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    x509.PemConverter.decodeFirst(text.slice(0, at)),
    algorithm,
    true,
    ['sign'],
  );
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: 'CN=agent',
    issuer: issuer.subject,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    signingKey,
    publicKey: keys.publicKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: spiffeId }]),
    ],
  });
  const key = x509.PemConverter.encode(
    await webcrypto.subtle.exportKey('pkcs8', keys.privateKey),
    'PRIVATE KEY',
  );
  return { cert: certificate.toString('pem'), key };
}
