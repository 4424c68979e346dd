/** What a replay found, counted and grouped. Bounded, whatever the journal holds. */
import { limits } from '../config/limits.ts';
import { looksLikeId, maskResource } from '../filters/common/path-secrets.ts';
import { type Change, changes, type Replayed } from './replay.ts';
import { fateOf, type RecordedDecision } from './replay-record.ts';

export type Count = { decisions: number; calls: number };

/** `resource`: secret-looking parts hidden. */
export type Example = Readonly<{ id: string; at: string; resource: string }>;

export type Group = Readonly<{
  change: Change | 'undetermined';
  agent: string;
  /** What became of it then, and by which rule; empty where none decided. */
  before: string;
  rule_before: string;
  after: string;
  rule_after: string;
  what: string;
  /** Ids and secret-looking parts of the path as `*`. */
  resource: string;
  /** What the rule reads that no record holds. */
  reads?: string;
  examples: Example[];
}> &
  Count;

export type Report = Readonly<{
  /** All decisions that were looked at. */
  total: Count;
  unchanged: Count;
  'newly-allowed': Count;
  'newly-denied': Count;
  'newly-held': Count;
  undetermined: Count;
  /** Refused by something else than the rules, by its code. */
  beside: Readonly<Record<string, number>>;
  /** Which rule cannot be told, for what, how often. */
  doubts: readonly Readonly<{ rule: string; reads: string } & Count>[];
  /** Most calls first. */
  groups: readonly Group[];
}>;

export type Reporter = Readonly<{
  add(decision: RecordedDecision, replayed: Replayed): void;
  report(): Report;
}>;

const zero = (): Count => ({ decisions: 0, calls: 0 });

function countIn(count: Count, { calls }: RecordedDecision): void {
  count.decisions += 1;
  count.calls += calls;
}

const hostOf = (resource: string): string => /^[a-z]+:\/\/[^/]*/.exec(resource)?.[0] ?? resource;

function shownResource(decision: RecordedDecision): string {
  const masked = maskResource(decision.resource, '*');
  const host = hostOf(masked);
  const path = masked.slice(host.length).split('/');
  return `${host}${path.map((segment) => (looksLikeId(segment) ? '*' : segment)).join('/')}`;
}

export function createReporter(examplesMax: number): Reporter {
  const total = zero();
  const counts = {
    unchanged: zero(),
    'newly-allowed': zero(),
    'newly-denied': zero(),
    'newly-held': zero(),
    undetermined: zero(),
  };
  const beside = new Map<string, number>();
  const doubts = new Map<string, { rule: string; reads: string } & Count>();
  const groups = new Map<string, Group>();

  const groupOf = (decision: RecordedDecision, replayed: Replayed): Group => {
    const { agent, what, rule } = decision;
    const isDoubt = replayed.kind === 'undetermined';
    const changed = changes.find((change) => change === replayed.kind);
    const base = {
      change: changed ?? 'undetermined',
      agent,
      before: fateOf(decision) ?? '',
      rule_before: rule,
      after: 'after' in replayed ? replayed.after : '',
      rule_after: 'rule' in replayed ? replayed.rule : '',
      ...(isDoubt ? { reads: replayed.reads } : {}),
    } as const;
    const named = { ...base, what, resource: shownResource(decision) };
    const key = JSON.stringify(named);
    const there = groups.get(key);
    if (there !== undefined) return there;
    const isFull = groups.size >= limits.replayGroupsMax;
    const coarse = { ...base, agent: '', what: '', resource: '(more)', rule_before: '' };
    const wanted = isFull ? coarse : named;
    const wantedKey = isFull ? JSON.stringify(coarse) : key;
    const group = groups.get(wantedKey) ?? { ...wanted, ...zero(), examples: [] };
    groups.set(wantedKey, group);
    return group;
  };

  const note = (decision: RecordedDecision, replayed: Replayed): void => {
    const group = groupOf(decision, replayed);
    countIn(group, decision);
    if (group.examples.length >= examplesMax) return;
    group.examples.push({
      id: decision.id,
      at: new Date(decision.atMs).toISOString(),
      resource: maskResource(decision.resource),
    });
  };

  return {
    add: (decision, replayed) => {
      if (replayed.kind === 'repeat') return;
      countIn(total, decision);
      if (replayed.kind === 'beside') {
        beside.set(replayed.code, (beside.get(replayed.code) ?? 0) + 1);
        return;
      }
      countIn(counts[replayed.kind], decision);
      if (replayed.kind === 'unchanged') return;
      if (replayed.kind === 'undetermined') {
        const { rule, reads } = replayed;
        const key = JSON.stringify([rule, reads]);
        const doubt = doubts.get(key) ?? { rule, reads, ...zero() };
        doubts.set(key, doubt);
        countIn(doubt, decision);
      }
      note(decision, replayed);
    },
    report: () => ({
      total,
      ...counts,
      beside: Object.fromEntries([...beside].sort(([, a], [, b]) => b - a)),
      doubts: [...doubts.values()].sort((a, b) => b.calls - a.calls),
      groups: [...groups.values()].sort((a, b) => b.calls - a.calls),
    }),
  };
}
