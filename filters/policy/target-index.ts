/**
 * Finds the few targets that a request may fit among thousands:
 *
 *   host trie → buckets → path trie → agent → method → MCP tool → entries
 *
 * The index only narrows; `fits` decides. So an entry may stand under fewer dimensions than it has: where
 * the product of a rule's hosts, paths, agents, methods and tools would flood the index, it is entered under "any"
 * in the dimensions that cost most, and compared in full when found.
 */
import type { Destination, McpCall } from '../facts.ts';
import { isOneLabel } from './host-pattern.ts';
import { isOneSegment } from './path-pattern.ts';
import { createPatternTrie, type PatternTrie } from './pattern-trie.ts';
import type { Subject, Target } from './target.ts';

/** Entries of one rule in the index. */
const entriesMax = 256;
/** Longer host lists are shared: rules with the same list stand in one bucket that every host points to. */
const ownHostsMax = 4;

type Leaf<T> = { any: ByMethod<T>; byAgent: Map<string, ByMethod<T>> };
type ByMethod<T> = { any: Entries<T>; byMethod: Map<string, Entries<T>> };
type Entries<T> = { plain: T[]; mcp: McpEntries<T> | undefined };
/** `byTool`: rules whose tools are all spelt out. `restricting`: what catches a message that is not strict. */
type McpEntries<T> = { byTool: Map<string, T[]>; others: T[]; restricting: T[] };
type Bucket<T> = { anyPath: Leaf<T> | undefined; paths: PatternTrie<Leaf<T>> | undefined };
/** Buckets of one host pattern: its own and shared ones, apart for what restricts (see `**` and addresses). */
type Slot<T> = { own: Bucket<T> | undefined; shared: Bucket<T>[] };

export type TargetIndex<T> = Readonly<{
  /** Candidates for this request, unordered; one may come twice. */
  candidates(subject: Subject): T[];
  /** Candidates by host alone, over all paths, agents and methods. */
  byHost(subject: Pick<Subject, 'destination' | 'hostLabels'>): T[];
}>;

const createEntries = <T>(): Entries<T> => ({ plain: [], mcp: undefined });
const createByMethod = <T>(): ByMethod<T> => ({ any: createEntries(), byMethod: new Map() });
const createLeaf = <T>(): Leaf<T> => ({ any: createByMethod(), byAgent: new Map() });
const createBucket = <T>(): Bucket<T> => ({ anyPath: undefined, paths: undefined });

function listAt<K, V>(map: Map<K, V>, key: K, create: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = create();
    map.set(key, value);
  }
  return value;
}

/** Which dimensions are worth an entry each, within `entriesMax`. */
function plan(
  target: Target,
  hosts: number,
): { paths: boolean; agents: boolean; methods: boolean; tools: boolean } {
  const tools = target.mcp?.tools;
  let entries = hosts;
  const within = (count: number | undefined): boolean => {
    if (count === undefined || entries * count > entriesMax) return false;
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
    if (by.agents && target.agents !== undefined)
      for (const agent of target.agents) groups.push(listAt(leaf.byAgent, agent, () => createByMethod<T>()));
    else groups.push(leaf.any);
    for (const group of groups) {
      if (by.methods && target.methods !== undefined)
        for (const method of target.methods)
          enterMcp(
            listAt(group.byMethod, method, () => createEntries<T>()),
            item,
            target,
            by.tools,
          );
      else enterMcp(group.any, item, target, by.tools);
    }
  }
}

function enterMcp<T>(entries: Entries<T>, item: T, target: Target, byTool: boolean): void {
  if (target.mcp === undefined) {
    entries.plain.push(item);
    return;
  }
  entries.mcp ??= { byTool: new Map(), others: [], restricting: [] };
  if (target.restricting) entries.mcp.restricting.push(item);
  if (byTool && target.mcp.tools !== undefined)
    for (const tool of target.mcp.tools) listAt(entries.mcp.byTool, tool.text, () => [] as T[]).push(item);
  else entries.mcp.others.push(item);
}

export function createTargetIndex<T>(items: readonly T[], targetOf: (item: T) => Target): TargetIndex<T> {
  const exact = new Map<string, Slot<T>>();
  const wildcard = createPatternTrie<Slot<T>>(isOneLabel);
  const everyHost = createBucket<T>();
  const sharedByList = new Map<string, Bucket<T>>();
  const createSlot = (): Slot<T> => ({ own: undefined, shared: [] });
  const byHostItems = new Map<Bucket<T>, T[]>();
  const enterIn = (bucket: Bucket<T>, item: T, target: Target, hosts: number): void => {
    enter(bucket, item, target, hosts);
    listAt(byHostItems, bucket, () => []).push(item);
  };

  for (const item of items) {
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
  const gather = (group: ByMethod<T>, { method, mcp }: Destination, found: T[]): void => {
    takeEntries(group.any, mcp, found);
    takeEntries(group.byMethod.get(method), mcp, found);
  };

  return {
    candidates: (subject) => {
      const found: T[] = [];
      const leaves: Leaf<T>[] = [];
      for (const bucket of bucketsOf(subject)) {
        if (bucket.anyPath !== undefined) leaves.push(bucket.anyPath);
        if (bucket.paths === undefined) continue;
        bucket.paths.collect(subject.segments, leaves);
        if (subject.plainSegments !== subject.segments) bucket.paths.collect(subject.plainSegments, leaves);
      }
      for (const leaf of leaves) {
        gather(leaf.any, subject.destination, found);
        const group = leaf.byAgent.get(subject.agent);
        if (group !== undefined) gather(group, subject.destination, found);
      }
      return found;
    },
    byHost: (subject) => {
      const found: T[] = [];
      for (const bucket of bucketsOf(subject)) {
        const items = byHostItems.get(bucket);
        if (items !== undefined) for (const item of items) found.push(item);
      }
      return found;
    },
  };
}
