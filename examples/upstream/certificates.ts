/** A certificate authority of the example's own. Nothing outside the example trusts it. */
import 'reflect-metadata';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';

export type KeyPair = Readonly<{ certificatePem: string; privateKeyPem: string }>;
export type ExampleAuthority = Readonly<{
  caPem: string;
  /** A leaf for these DNS names and addresses; `uris` become URI names (a SPIFFE ID of a client). */
  issue(names: readonly string[], uris?: readonly string[]): Promise<KeyPair>;
}>;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const dayMs = 24 * 60 * 60 * 1000;

const pemOf = async (key: CryptoKey): Promise<string> =>
  x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');

/** RFC 5280, section 4.1.2.2: a positive serial number of at most 20 octets. */
const serial = (): string => `40${Buffer.from(crypto.getRandomValues(new Uint8Array(15))).toString('hex')}`;

export async function createExampleAuthority(nowMs: number = Date.now()): Promise<ExampleAuthority> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const life = { notBefore: new Date(nowMs - dayMs), notAfter: new Date(nowMs + 30 * dayMs) };
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: 'CN=Sallyport example upstream authority',
    ...life,
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    caPem: ca.toString('pem'),
    issue: async (names, uris = []) => {
      const leaf = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: serial(),
        subject: `CN=${names[0] ?? 'example'}`,
        issuer: ca.subject,
        ...life,
        publicKey: leaf.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([
            x509.ExtendedKeyUsage.serverAuth,
            x509.ExtendedKeyUsage.clientAuth,
          ]),
          new x509.SubjectAlternativeNameExtension([
            ...names.map((value) => ({
              type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const),
              value,
            })),
            ...uris.map((value) => ({ type: 'url' as const, value })),
          ]),
          await x509.AuthorityKeyIdentifierExtension.create(ca, false),
        ],
      });
      return { certificatePem: certificate.toString('pem'), privateKeyPem: await pemOf(leaf.privateKey) };
    },
  };
}
