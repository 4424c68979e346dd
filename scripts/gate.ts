/**
 * The gate: format and lint, types, generated documents, dependency audit, then every test with coverage.
 * `gate.ts check` stops before the tests; `gate.ts test FILTER…` runs only the tests whose path contains FILTER.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { prepareMachine } from './machine.ts';

const root = dirname(import.meta.dirname);
const [mode = 'test', ...filters] = process.argv.slice(2);
const bin = (name: string): string => join(root, 'node_modules', '.bin', name);
const say = (line: string): void => void process.stderr.write(`${line}\n`);

type Step = Readonly<{
  name: string;
  command: string;
  args: readonly string[];
  /** What is true where the step ends with status 3: it could not be done, and that is no failure of the sources. */
  undone?: string;
}>;

function run(step: Step): boolean {
  const started = Date.now();
  say(`gate: ${step.name}`);
  const { error, status } = spawnSync(step.command, step.args, { cwd: root, stdio: ['ignore', 2, 2] });
  const wasDone = error !== undefined || status !== 3 || step.undone === undefined;
  const ok = error === undefined && (status === 0 || !wasDone);
  const outcome = wasDone ? (ok ? 'passed' : 'FAILED') : `not done: ${step.undone},`;
  say(`gate: ${step.name} ${outcome} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  return ok;
}

const steps: readonly Step[] = [
  { name: 'format and lint (biome)', command: bin('biome'), args: ['ci', '--error-on-warnings', '.'] },
  { name: 'types (tsc)', command: bin('tsc'), args: ['--pretty', 'false'] },
  {
    name: 'generated documents',
    command: process.execPath,
    args: [join(root, 'scripts', 'docs.ts'), '--check'],
  },
  {
    name: 'dependency audit',
    command: process.execPath,
    args: [join(root, 'scripts', 'audit.ts')],
    undone: 'every version is pinned and locked, known vulnerabilities were NOT looked up',
  },
];

/** Runs vitest and returns its counts. */
function runTests(): Readonly<{ passed: number; failed: number; skipped: number; ok: boolean }> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-gate-'));
  const report = join(folder, 'report.json');
  try {
    const coverage = filters.length === 0 ? ['--coverage'] : [];
    const result = spawnSync(
      // Not by its link: that would run on whatever `node` comes first in PATH.
      process.execPath,
      [
        join(root, 'node_modules', 'vitest', 'vitest.mjs'),
        'run',
        '--reporter=default',
        '--reporter=json',
        `--outputFile.json=${report}`,
        ...coverage,
        ...filters,
      ],
      { cwd: root, stdio: ['ignore', 2, 2] },
    );
    // No report: vitest itself broke, and has said why.
    const counts = existsSync(report)
      ? (JSON.parse(readFileSync(report, 'utf8')) as Readonly<Record<string, number>>)
      : {};
    return {
      passed: counts['numPassedTests'] ?? 0,
      failed: counts['numFailedTests'] ?? 0,
      skipped: (counts['numPendingTests'] ?? 0) + (counts['numTodoTests'] ?? 0),
      ok: result.status === 0,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (mode !== 'check' && mode !== 'test') {
  say(`gate: unknown mode ${mode}; known are check and test`);
  process.exit(2);
}
if (filters.length === 0) {
  const failed = steps.filter((step) => !run(step)).map((step) => step.name);
  if (failed.length > 0) {
    say(`gate: failed: ${failed.join(', ')}`);
    process.exit(1);
  }
}
if (mode === 'test') {
  await prepareMachine(say);
  const { passed, failed, skipped, ok } = runTests();
  // Root can do all that any test asks for; what is skipped then was forgotten.
  const forgotten = process.getuid?.() === 0 && skipped > 0;
  if (forgotten) say(`gate: failed: ${skipped} tests were skipped, though nothing stands in the way of root`);
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
  process.exit(ok && passed > 0 && !forgotten ? 0 : 1);
}
