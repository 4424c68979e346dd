/**
 * Dependency audit of what runs in production: fails on a known vulnerability of high severity or above, and on
 * a version in package.json that is not exact. A registry that offers no audit is no pass: status 3.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);
type Manifest = Readonly<
  Record<'dependencies' | 'devDependencies' | 'optionalDependencies', Record<string, string> | undefined>
>;
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;

const loose = Object.entries({
  ...manifest.dependencies,
  ...manifest.devDependencies,
  ...manifest.optionalDependencies,
})
  .filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))
  .map(([name, version]) => `${name}@${version}`);
if (loose.length > 0) {
  process.stderr.write(`audit: not pinned exactly: ${loose.join(', ')}\n`);
  process.exit(1);
}

const result = spawnSync('npm', ['audit', '--omit=dev', '--audit-level=high', '--json'], {
  cwd: root,
  encoding: 'utf8',
  timeout: 60_000,
});
type Report = Readonly<{
  metadata?: { vulnerabilities: Record<string, number> };
  message?: string;
  error?: { summary?: string };
}>;
let report: Report;
try {
  report = JSON.parse(result.stdout) as Report;
} catch {
  report = { message: `no answer (${result.error?.message ?? `status ${result.status}`})` };
}
if (report.metadata === undefined) {
  const why = report.error?.summary || report.message || 'no reason given';
  process.stderr.write(`audit: the registry gave no audit: ${why}\n`);
  process.exit(3);
}
process.stderr.write(`audit: ${JSON.stringify(report.metadata.vulnerabilities)}\n`);
process.exit(result.status === 0 ? 0 : 1);
