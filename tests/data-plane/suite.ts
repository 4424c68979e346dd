/** What every data plane does. Run by embedded.test.ts and envoy.test.ts. */
import { afterAll, beforeAll, describe } from 'vitest';
import { authorityCases } from './cases/authority.ts';
import { boundCases } from './cases/bounds.ts';
import { interceptedCases } from './cases/intercepted.ts';
import { ledgerCases } from './cases/ledger.ts';
import { lockdownCases } from './cases/lockdown.ts';
import { mcpCases } from './cases/mcp.ts';
import { oversightCases } from './cases/oversight.ts';
import { plainCases } from './cases/plain.ts';
import { revokedCases } from './cases/revoked.ts';
import { shapeCases } from './cases/shapes.ts';
import { streamCases } from './cases/streams.ts';
import { tunnelCases } from './cases/tunnels.ts';
import { type Harness, type StartPlane, startHarness } from './harness.ts';
import { sharedPolicy } from './policies.ts';

export function describeDataPlane(name: string, start: StartPlane): void {
  describe(`${name} data plane`, () => {
    let shared: Harness | undefined;
    beforeAll(async () => {
      shared = await startHarness(start, { policy: sharedPolicy });
    });
    afterAll(() => shared?.close());
    const harness = (): Harness => {
      if (shared === undefined) throw new Error('the data plane did not start');
      return shared;
    };
    describe('HTTP in the clear', () => plainCases(harness));
    describe('intercepted TLS', () => interceptedCases(harness));
    describe('tunnels and addresses', () => tunnelCases(harness));
    describe('shapes and limits', () => shapeCases(harness));
    describe('streams', () => streamCases(harness));
    describe('authority', () => authorityCases(harness));
    describe('ledger', () => ledgerCases(harness));
    describe('MCP', () => mcpCases(harness));
    describe('lockdown', () => lockdownCases(start));
    describe('bounds', () => boundCases(start));
    describe('revoked credentials', () => revokedCases(start));
    describe('oversight, quota and policy', () => oversightCases(start));
  });
}
