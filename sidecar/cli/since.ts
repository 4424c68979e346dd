/** A point of time as `--since` takes it: how long ago (`24h`), or a date. */
import { durationPattern } from '../../config/policy/schema.ts';
import { CommandFailure, exitCodes } from './output.ts';

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** RFC 3339, section 5.6, with its zone; or a date alone, which begins at midnight UTC. */
const datePattern =
  /^\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:\d{2}))?$/;

/** Milliseconds since the epoch. */
export function sinceMs(text: string, nowMs: number): number {
  const match = durationPattern.exec(text);
  if (match !== null) return nowMs - Number(match[1]) * (unitMs[match[2] ?? ''] ?? 0);
  const ms = datePattern.test(text) ? Date.parse(text.replace(' ', 'T')) : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  throw new CommandFailure(
    `--since ${JSON.stringify(text.slice(0, 100))} is no point of time`,
    'Write how long ago (30m, 24h, 7d), or a date (2026-11-20, 2026-11-20T08:00Z).',
    exitCodes.usage,
  );
}

/** `2026-11-20 08:00:00.123 UTC` */
export const exactTime = (ms: number): string =>
  `${new Date(ms).toISOString().slice(0, 23).replace('T', ' ')} UTC`;

/** `2026-11-20 08:00 UTC` */
export const shownTime = (ms: number): string =>
  `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
