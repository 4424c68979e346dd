import { defineConfig } from 'vitest/config';

/** One seed for every fuzz test of this run; the workers inherit it. */
process.env['FUZZ_SEED'] ??= String(Date.now() % 2 ** 31);

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 60_000,
    passWithNoTests: false,
    allowOnly: false,
    coverage: {
      provider: 'v8',
      include: ['{config,filters,ext-authz,envoy,sidecar}/**/*.ts'],
      // The command line is tested as its user runs it, in processes of its own, which this cannot see into.
      exclude: ['sidecar/cli/**', '**/*.d.ts'],
      reporter: ['text-summary', 'json-summary'],
      reportOnFailure: true,
      thresholds: { lines: 85 },
    },
  },
});
