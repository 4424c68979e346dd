/**
 * Finds the few targets that a request may fit among thousands:
 *
 *   host trie → buckets → path trie → agent → method → MCP tool → entries
 *
 * The index only narrows; `fits` decides. So an entry may stand under fewer dimensions than it has: where
 * the product of a rule's hosts, paths, agents, methods and tools would flood the index, it is entered under "any"
 * in the dimensions that cost most, and compared in full when found.
 */
import { limits } from '../../config/limits.ts';
import type { Steps } from '../common/slices.ts';
import type { Destination, McpCall } from '../facts.ts';
import { isOneLabel } from './host-pattern.ts';
import { isOneSegment } from './path-pattern.ts';
import { createPatternTrie, type PatternTrie } from './pattern-trie.ts';
import type { Subject, Target } from './target.ts';

/** Longer host lists are shared: rules with the same list stand in one bucket that every host points to. */
const ownHostsMax = 4;

// Most of a large policy's rules have a leaf of their own: what it does not need is not made.
type Leaf<T> = { any: ByMethod<T> | undefined; byAgent: Map<string, ByMethod<T>> | undefined };
type ByMethod<T> = { any: Entries<T> | undefined; byMethod: Map<string, Entries<T>> | undefined };
type Entries<T> = { plain: T[] | undefined; mcp: McpEntries<T> | undefined };
/** `byTool`: rules whose tools are all spelt out. `restricting`: what catches a message that is not strict. */
type McpEntries<T> = { byTool: Map<string, T[]>; others: T[]; restricting: T[] };
type Bucket<T> = {
  anyPath: Leaf<T> | undefined;
  paths: PatternTrie<Leaf<T>> | undefined;
  /** Whatever was entered, over all paths, agents and methods. */
  items: T[] | undefined;
};
/** Buckets of one host pattern: its own and shared ones, apart for what restricts (see `**` and addresses). */
type Slot<T> = { own: Bucket<T> | undefined; shared: Bucket<T>[] };

export const here = 'here';

export type TargetIndex<T> = Readonly<{
  /** Candidates for this request, unordered; one may come twice. */
  candidates(subject: Subject): T[];
  /**
   * First what may fit this request whatever its MCP message is, with depth `here`; then what may fit paths
   * beside it, nearest directory first: see `PatternTrie.around`. Ends where `visit` answers false.
   */
  around(subject: Subject, visit: (item: T, depth: number | typeof here) => boolean): void;
  /** Candidates by host alone, over all paths, agents and methods. */
  byHost(subject: Pick<Subject, 'destination' | 'hostLabels'>): T[];
}>;

const createEntries = <T>(): Entries<T> => ({ plain: undefined, mcp: undefined });
const createByMethod = <T>(): ByMethod<T> => ({ any: undefined, byMethod: undefined });
const createLeaf = <T>(): Leaf<T> => ({ any: undefined, byAgent: undefined });
const createBucket = <T>(): Bucket<T> => ({ anyPath: undefined, paths: undefined, items: undefined });

/** An array that is made with its first item has room for no more; an empty one that grows has it for 16. */
function added<T>(list: T[] | undefined, item: T): T[] {
  if (list === undefined) return [item];
  list.push(item);
  return list;
}

function listAt<K, V>(map: Map<K, V>, key: K, create: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = create();
    map.set(key, value);
  }
  return value;
}

/** Which dimensions are worth an entry each, within `policyIndexEntriesPerRuleMax`. */
function plan(
  target: Target,
  hosts: number,
): { paths: boolean; agents: boolean; methods: boolean; tools: boolean } {
  const tools = target.mcp?.tools;
  let entries = hosts;
  const within = (count: number | undefined): boolean => {
    if (count === undefined || entries * count > limits.policyIndexEntriesPerRuleMax) return false;
    entries *= count;
    return true;
  };
  return {
    paths: within(target.paths?.length),
    agents: within(target.agents?.size),
    methods: within(target.methods?.size),
    tools: tools?.every((tool) => !tool.prefix) === true && within(tools.length),
  };
}

function enter<T>(bucket: Bucket<T>, item: T, target: Target, hosts: number): void {
  const by = plan(target, hosts);
  const leaves: Leaf<T>[] = [];
  if (by.paths && target.paths !== undefined) {
    bucket.paths ??= createPatternTrie<Leaf<T>>(isOneSegment);
    for (const path of target.paths) leaves.push(bucket.paths.ensure(path.segments, createLeaf));
  } else {
    bucket.anyPath ??= createLeaf();
    leaves.push(bucket.anyPath);
  }
  for (const leaf of leaves) {
    const groups: ByMethod<T>[] = [];
    if (by.agents && target.agents !== undefined) {
      leaf.byAgent ??= new Map();
      for (const agent of target.agents) groups.push(listAt(leaf.byAgent, agent, () => createByMethod<T>()));
    } else {
      leaf.any ??= createByMethod();
      groups.push(leaf.any);
    }
    for (const group of groups) {
      if (by.methods && target.methods !== undefined) {
        group.byMethod ??= new Map();
        for (const method of target.methods)
          enterMcp(
            listAt(group.byMethod, method, () => createEntries<T>()),
            item,
            target,
            by.tools,
          );
      } else {
        group.any ??= createEntries();
        enterMcp(group.any, item, target, by.tools);
      }
    }
  }
}

function enterMcp<T>(entries: Entries<T>, item: T, target: Target, byTool: boolean): void {
  if (target.mcp === undefined) {
    entries.plain = added(entries.plain, item);
    return;
  }
  entries.mcp ??= { byTool: new Map(), others: [], restricting: [] };
  if (target.restricting) entries.mcp.restricting.push(item);
  if (byTool && target.mcp.tools !== undefined)
    for (const tool of target.mcp.tools) listAt(entries.mcp.byTool, tool.text, () => [] as T[]).push(item);
  else entries.mcp.others.push(item);
}

function* everyEntry<T>(entries: Entries<T> | undefined): Iterable<T> {
  if (entries === undefined) return;
  if (entries.plain !== undefined) yield* entries.plain;
  if (entries.mcp === undefined) return;
  // `restricting` repeats what stands here.
  yield* entries.mcp.others;
  for (const items of entries.mcp.byTool.values()) yield* items;
}

export function* indexTargets<T>(items: readonly T[], targetOf: (item: T) => Target): Steps<TargetIndex<T>> {
  const exact = new Map<string, Slot<T>>();
  const wildcard = createPatternTrie<Slot<T>>(isOneLabel);
  const everyHost = createBucket<T>();
  const sharedByList = new Map<string, Bucket<T>>();
  const createSlot = (): Slot<T> => ({ own: undefined, shared: [] });
  const enterIn = (bucket: Bucket<T>, item: T, target: Target, hosts: number): void => {
    enter(bucket, item, target, hosts);
    bucket.items = added(bucket.items, item);
  };

  for (const item of items) {
    yield;
    const target = targetOf(item);
    if (target.hosts === undefined) {
      enterIn(everyHost, item, target, 1);
      continue;
    }
    const slots = target.hosts.map((pattern) =>
      pattern.wildcard
        ? wildcard.ensure(pattern.reversed, createSlot)
        : listAt(exact, pattern.text, createSlot),
    );
    if (slots.length <= ownHostsMax) {
      for (const slot of slots) {
        slot.own ??= createBucket();
        enterIn(slot.own, item, target, slots.length);
      }
      continue;
    }
    const list = JSON.stringify(target.hosts.map((pattern) => pattern.text).toSorted());
    let bucket = sharedByList.get(list);
    if (bucket === undefined) {
      bucket = createBucket<T>();
      sharedByList.set(list, bucket);
      for (const slot of slots) if (!slot.shared.includes(bucket)) slot.shared.push(bucket);
    }
    enterIn(bucket, item, target, 1);
  }

  const bucketsOf = ({
    destination,
    hostLabels,
  }: Pick<Subject, 'destination' | 'hostLabels'>): Bucket<T>[] => {
    const slots: Slot<T>[] = [];
    const slot = exact.get(destination.host);
    if (slot !== undefined) slots.push(slot);
    // For an address this finds more than fits (`*` as one label); `hostFits` refuses those.
    wildcard.collect(hostLabels, slots);
    const buckets: Bucket<T>[] = [everyHost];
    for (const { own, shared } of slots) {
      if (own !== undefined) buckets.push(own);
      for (const bucket of shared) if (!buckets.includes(bucket)) buckets.push(bucket);
    }
    return buckets;
  };

  const leavesAt = (subject: Subject, buckets: readonly Bucket<T>[]): Leaf<T>[] => {
    const leaves: Leaf<T>[] = [];
    for (const bucket of buckets) {
      if (bucket.anyPath !== undefined) leaves.push(bucket.anyPath);
      if (bucket.paths === undefined) continue;
      bucket.paths.collect(subject.segments, leaves);
      if (subject.plainSegments !== subject.segments) bucket.paths.collect(subject.plainSegments, leaves);
    }
    return leaves;
  };

  const take = (list: readonly T[] | undefined, found: T[]): void => {
    if (list !== undefined) for (const item of list) found.push(item);
  };
  const takeEntries = (entries: Entries<T> | undefined, mcp: McpCall, found: T[]): void => {
    if (entries === undefined) return;
    take(entries.plain, found);
    if (entries.mcp === undefined || mcp.kind === 'none') return;
    if (mcp.kind === 'invalid') {
      take(entries.mcp.restricting, found);
      return;
    }
    take(entries.mcp.others, found);
    take(entries.mcp.byTool.get(mcp.tool), found);
  };
  const gather = (group: ByMethod<T> | undefined, { method, mcp }: Destination, found: T[]): void => {
    if (group === undefined) return;
    takeEntries(group.any, mcp, found);
    takeEntries(group.byMethod?.get(method), mcp, found);
  };

  return {
    candidates: (subject) => {
      const found: T[] = [];
      for (const leaf of leavesAt(subject, bucketsOf(subject))) {
        gather(leaf.any, subject.destination, found);
        gather(leaf.byAgent?.get(subject.agent), subject.destination, found);
      }
      return found;
    },
    around: (subject, visit) => {
      const buckets = bucketsOf(subject);
      const every = (leaf: Leaf<T>, depth: number | typeof here): boolean => {
        for (const group of [leaf.any, leaf.byAgent?.get(subject.agent)])
          for (const entries of [group?.any, group?.byMethod?.get(subject.destination.method)])
            for (const item of everyEntry(entries)) if (!visit(item, depth)) return false;
        return true;
      };
      for (const leaf of leavesAt(subject, buckets)) if (!every(leaf, here)) return;
      const directories = subject.segments.slice(0, -1);
      for (const bucket of buckets) bucket.paths?.around(directories, every);
    },
    byHost: (subject) => {
      const found: T[] = [];
      for (const { items } of bucketsOf(subject)) take(items, found);
      return found;
    },
  };
}
