/** Client certificates with a SPIFFE ID, as a workload gets them. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { ringIn } from '../support/keys.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** Signed by the authority that `authorityIn` keeps in `dir`. */
export async function clientCertificate(
  dir: string,
  spiffeId: string,
): Promise<{ cert: string; key: string }> {
  const [open] = (await ringIn(dir)).open('authority');
  if (open === undefined) throw new Error(`there is no authority in ${dir}`);
  const issuer = new x509.X509Certificate(open.entry.public);
  const signingKey = open.privateKey.toCryptoKey(algorithm, false, ['sign']);
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
