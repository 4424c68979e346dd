/** The two bundles of authorities: what proves a destination's name to us, and what agents trust. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { rootCertificates } from 'node:tls';
import { SallyportError } from '../config/errors.ts';

/** Where the systems keep their bundle: Debian, RHEL, SUSE, Alpine. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
const certificate = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

function systemPem(): string {
  for (const file of systemBundles) {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      // Another system's path: the next one, and Node's own list stands in any case.
    }
  }
  return '';
}

function readPem(file: string): string {
  try {
    const pem = readFileSync(file, 'utf8');
    if (pem.match(certificate) === null) throw new Error('it holds no PEM certificate');
    return pem;
  } catch (thrown) {
    throw new SallyportError(
      'SettingsInvalid',
      `upstream.ca_files: ${file} cannot be used: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      { cause: thrown },
    );
  }
}

/** Certificates of several bundles, each once. */
const merged = (...pems: readonly string[]): string =>
  `${[...new Set(pems.flatMap((pem) => pem.match(certificate) ?? []))].join('\n')}\n`;

/** The system's authorities, Node's, and those of the settings. */
export const upstreamAuthorities = (files: readonly string[]): string =>
  merged(systemPem(), rootCertificates.join('\n'), ...files.map(readPem));

/** Replaces a public file at once, so that a reader sees the old one or the new one. */
export function publish(file: string, content: string): string {
  writeFileSync(`${file}.new`, content, { mode: 0o644 });
  renameSync(`${file}.new`, file);
  return file;
}

export type AgentTrust = Readonly<{
  /** Our authority alone. */
  caFile: string;
  /** The system's authorities and ours: for variables that replace a program's list. */
  bundleFile: string;
  /** Directory with ours alone, for `SSL_CERT_DIR`. */
  certDir: string;
}>;

export function publishAgentTrust(runDir: string, caPem: string): AgentTrust {
  const certDir = path.join(runDir, 'certs');
  mkdirSync(certDir, { recursive: true, mode: 0o755 });
  publish(path.join(certDir, 'sallyport.pem'), caPem);
  return {
    caFile: publish(path.join(runDir, 'ca.pem'), caPem),
    bundleFile: publish(
      path.join(runDir, 'ca-bundle.pem'),
      merged(systemPem() || rootCertificates.join('\n'), caPem),
    ),
    certDir,
  };
}
