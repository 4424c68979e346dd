import { defineConfig } from 'vitest/config';

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
      include: ['config/**', 'filters/**', 'ext-authz/**', 'envoy/**', 'sidecar/**'],
      reporter: ['text-summary', 'json-summary'],
    },
  },
});
