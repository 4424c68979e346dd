/**
 * What became of released requests that Envoy carried: its access log names the hold of each. Without this a
 * restart of the sidecar could not tell a request that was sent from one that a crash hides.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { SallyportError } from '../config/errors.ts';
import type { HoldId } from '../filters/common/brand.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import { tailLog } from './log-tail.ts';
import { envoyPaths } from './paths.ts';

const entry = z.object({ hold: z.string(), flags: z.string().nullish(), upstream: z.string().nullish() });

/** Envoy's response flags for a request that never left: no connection, no healthy host, overflow, no route, no cluster. */
const neverLeft = new Set(['UF', 'UH', 'UO', 'NR', 'NC', 'UAEX']);

export function outcomeOf(line: string): Readonly<{ hold: HoldId; outcome: 'Sent' | 'NotSent' }> | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    // A torn line: its hold stays as it is, and becomes Unknown at the next start.
    return undefined;
  }
  const result = entry.safeParse(parsed);
  if (!result.success || !/^hold_[0-9A-HJKMNP-TV-Z]{26}$/.test(result.data.hold)) return undefined;
  const { hold, flags, upstream } = result.data;
  const left =
    upstream !== undefined &&
    upstream !== null &&
    upstream !== '-' &&
    !(flags ?? '').split(',').some((flag) => neverLeft.has(flag));
  return { hold: hold as HoldId, outcome: left ? 'Sent' : 'NotSent' };
}

/** Reads what the log says since the last call and settles the holds it names. Returns whether more is waiting. */
export function followHoldOutcomes(stateDir: string, holds: HoldStore): () => boolean {
  const { accessLog } = envoyPaths('', stateDir, '');
  const tail = tailLog(accessLog, join(stateDir, 'hold-outcomes.place'), '"hold_');
  return () =>
    tail.read((line) => {
      const found = outcomeOf(line);
      if (found === undefined) return;
      try {
        holds.settle(found.hold, found.outcome, 'access log');
      } catch (thrown) {
        // Given twice after a crash, or settled by an operator meanwhile: what was said first stands.
        if (!(thrown instanceof SallyportError) || !['HoldNotPending', 'HoldNotFound'].includes(thrown.code))
          throw thrown;
      }
    });
}
