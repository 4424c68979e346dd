/** What others write and the sidecar reads or shows: whatever it is, an answer or an error of the catalogue. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { parsePolicy } from '../../config/policy/parse.ts';
import { printable, printableJson } from '../../filters/common/printable.ts';
import { compilePolicy } from '../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { bearerMatches } from '../../sidecar/admin/token.ts';
import { explain, explainRequestSchema } from '../../sidecar/explain.ts';
import { redact, redactLine } from '../../sidecar/redact.ts';
import { readRunFile } from '../../sidecar/run-file.ts';
import { fuzzRuns } from '../support/fuzz.ts';

let dir: string;
let policy: CompiledPolicy;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sp-fuzz-'));
  const text = `version: 1
agents: { a: { identity: spiffe://example.org/a } }
rules: [{ name: r, to: { hosts: ["**.example.org"], mcp: {} }, allow: {} }]
`;
  const parsed = parsePolicy(text, 'policy.yaml');
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.issues));
  const compiled = compilePolicy(parsed.value, { uidOf: () => undefined });
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.issues));
  policy = compiled.value;
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('a run file of any content is one or counts as none', () => {
  const shaped = fc.record({
    runDir: fc.string(),
    processes: fc.array(fc.record({ name: fc.string(), pid: fc.integer(), startTicks: fc.string() })),
  });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        shaped.map((value) => JSON.stringify(value)),
      ),
      (text) => {
        writeFileSync(join(dir, 'sidecar.json'), text);
        const found = readRunFile(dir);
        if (found !== undefined) expect(found.processes.length).toBeGreaterThan(0);
      },
    ),
    fuzzRuns,
  );
});

test('any described request is explained or refused by the catalogue', () => {
  const url = fc.oneof(
    fc.string(),
    fc.webUrl(),
    fc.tuple(fc.string(), fc.string()).map(([host, path]) => `https://${host}/${path}`),
  );
  const request = fc.record({
    method: fc.oneof(fc.constantFrom('GET', 'POST', 'CONNECT'), fc.string()),
    url,
    headers: fc.dictionary(fc.string(), fc.string()),
    body: fc.oneof(fc.string(), fc.json()),
  });
  fc.assert(
    fc.property(request, (value) => {
      const parsed = explainRequestSchema.safeParse(value);
      if (!parsed.success) return;
      try {
        expect(explain(policy, parsed.data, 0).decision).toMatch(
          /^(Allow|Deny|RequiresOversight|Intercept)$/,
        );
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(SallyportError);
      }
    }),
    fuzzRuns,
  );
});

test('printable text holds nothing that a terminal obeys, and printable JSON parses to the same value', () => {
  const text = fc.string({ unit: 'binary' });
  fc.assert(
    fc.property(text, (value) => {
      expect(printable(value, 10_000)).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u);
      const line = printableJson(JSON.stringify({ value }));
      expect(line).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u);
      expect(JSON.parse(line)).toEqual({ value });
    }),
    fuzzRuns,
  );
});

test('redaction ends on anything, and a line of JSON stays JSON', () => {
  fc.assert(
    fc.property(fc.anything({ withBigInt: true, withDate: true, withTypedArray: true }), (value) => {
      const line = JSON.stringify({ value: redact(value) });
      expect(() => JSON.parse(redactLine(line))).not.toThrow();
    }),
    fuzzRuns,
  );
});

test('no header but the token in full opens the admin API', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (header) => {
      expect(bearerMatches(header, 'k'.repeat(43))).toBe(false);
      expect(bearerMatches(`Bearer ${header}`, 'k'.repeat(43))).toBe(false);
    }),
    fuzzRuns,
  );
});
