/**
 * How often fast-check runs each property of a decoder, and from which seed. The seed is one per run of the
 * suite and printed by it; `FUZZ_SEED=… npm test` repeats a run.
 */
export const fuzzRuns = { numRuns: 200, seed: Number(process.env['FUZZ_SEED'] ?? 0) } as const;
