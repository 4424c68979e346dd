/** How often fast-check runs each property of a decoder. */
export const fuzzRuns = { numRuns: 200 } as const;
