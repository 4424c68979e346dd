/**
 * `decide`: one decision of the compiled policy with fresh facts, under ten rules and under ten thousand (a
 * thousand of them on one host, wildcards among them), one from the decision cache, and one call paid from a
 * quota. Every verdict is compared.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatIssue } from '../config/policy/issue.ts';
import { parsePolicy } from '../config/policy/parse.ts';
import { openDatabase } from '../filters/common/database.ts';
import { createClock } from '../filters/common/time.ts';
import type { Agent } from '../filters/facts.ts';
import { compilePolicy } from '../filters/policy/compile.ts';
import type { CompiledPolicy, RequestFacts } from '../filters/policy/compiled.ts';
import { createDecisionCache } from '../filters/policy/decision-cache.ts';
import type { Debit } from '../filters/quota/quota.ts';
import { openQuotaStore } from '../filters/quota/sqlite.ts';
import { type Bench, type Figures, median } from './report.ts';

// Many short rounds: a median of those is of rounds that nothing else on the machine interrupted.
const rounds = 150;
const roundsWarm = 20;
const decisionsPerRound = 2_000;
const quotaKeys = 100;
const quotaCalls = 500_000;

type Rule = Readonly<Record<string, unknown>>;

/** The ten that both policies have: exact hosts, wildcards, paths, methods, a condition, a forbid. */
const ten: readonly Rule[] = [
  { name: 'read', to: { hosts: ['read.example'], methods: ['GET'] }, allow: {} },
  { name: 'write', to: { hosts: ['write.example'], methods: ['POST'] }, allow: {} },
  { name: 'wide', to: { hosts: ['*.wide.example'] }, allow: {} },
  { name: 'deep', to: { hosts: ['**.deep.example'] }, allow: {} },
  { name: 'never', to: { hosts: ['read.example'], paths: ['/secret/**'] }, forbid: {} },
  { name: 'one', to: { hosts: ['api.one.example'], paths: ['/v1/things/*'] }, allow: {} },
  { name: 'two', to: { hosts: ['api.one.example'], paths: ['/v1/*/parts/**'] }, allow: {} },
  { name: 'three', to: { hosts: ['*.one.example'], paths: ['/v2/**'], methods: ['GET'] }, allow: {} },
  { name: 'port', to: { hosts: ['port.example'], ports: [8443] }, allow: {} },
  {
    name: 'when',
    to: { hosts: ['when.example'] },
    when: 'request.method == "GET" && agent.labels.team == "search"',
    allow: {},
  },
];

const tenThousand: readonly Rule[] = [
  ...ten,
  ...Array.from({ length: 8_990 }, (_, index) => ({
    name: `host-${index}`,
    to: { hosts: [`h${index}.example.org`], methods: ['GET'] },
    allow: {},
  })),
  ...Array.from({ length: 1_000 }, (_, index) => ({
    name: `path-${index}`,
    to: {
      hosts: [index % 10 === 0 ? '*.one.example' : 'api.one.example'],
      paths: [index % 7 === 0 ? `/v3/*/p${index}` : `/v3/a/p${index}/**`],
    },
    allow: {},
  })),
];

type Request = Readonly<{ method: string; host: string; port: number; path: string }>;
/** The rule that decides under ten rules and under ten thousand; empty where none does. */
type Asked = Readonly<{ request: Request; few: string; many: string; kind: 'allow' | 'forbid' }>;

function asked(method: string, url: string, few: string, many = few): Asked {
  const { hostname: host, port, pathname: path } = new URL(url);
  const kind = few === 'never' ? 'forbid' : 'allow';
  return { request: { method, host, port: Number(port || 443), path }, few, many, kind };
}

const mix: readonly Asked[] = [
  asked('GET', 'https://read.example/a', 'read'),
  asked('POST', 'https://read.example/a', ''),
  asked('GET', 'https://read.example/secret/key', 'never'),
  asked('POST', 'https://write.example/a/b', 'write'),
  asked('GET', 'https://a.wide.example/', 'wide'),
  asked('GET', 'https://a.b.wide.example/', ''),
  asked('GET', 'https://a.b.deep.example/x/y/z', 'deep'),
  asked('GET', 'https://api.one.example/v1/things/7', 'one'),
  asked('PUT', 'https://api.one.example/v1/7/parts/a/b', 'two'),
  asked('GET', 'https://api.one.example/v2/x', 'three'),
  asked('POST', 'https://api.one.example/v2/x', ''),
  asked('GET', 'https://port.example:8443/', 'port'),
  asked('GET', 'https://port.example/', ''),
  asked('GET', 'https://when.example/', 'when'),
  asked('POST', 'https://when.example/', ''),
  asked('GET', 'https://unknown.example/', ''),
  asked('GET', 'https://h8000.example.org/', '', 'host-8000'),
  asked('GET', 'https://api.one.example/v3/a/p999/x', '', 'path-999'),
  asked('GET', 'https://api.one.example/v3/zz/p994', '', 'path-994'),
  asked('GET', 'https://b.one.example/v3/zz/p980', '', 'path-980'),
];

function compile(rules: readonly Rule[]): CompiledPolicy {
  const text = JSON.stringify({
    version: 1,
    agents: { bench: { identity: 'spiffe://sallyport.test/agent/bench', labels: { team: 'search' } } },
    rules,
  });
  const parsed = parsePolicy(text, 'bench.yaml');
  const compiled = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  if (!compiled.ok) throw new Error(compiled.issues.map(formatIssue).join('\n'));
  return compiled.value;
}

const factsOf = (agent: Agent, { method, host, port, path }: Request, nowMs: number): RequestFacts => ({
  agent,
  destination: {
    ...{ scheme: 'https', host, hostIsAddress: false, port, method, path, query: '' },
    mcp: { kind: 'none' },
  },
  headers: { 'user-agent': 'bench', accept: '*/*' },
  body: { kind: 'unread' },
  nowMs,
});

/** One round of decisions in microseconds each, facts made anew for every one. */
function decideRound(policy: CompiledPolicy, agent: Agent, size: 'few' | 'many'): number {
  let wrong = 0;
  let next = 0;
  const started = performance.now();
  for (let index = 0; index < decisionsPerRound; index += 1) {
    const one = mix[next];
    if (one === undefined) throw new Error('there is nothing to ask');
    next = next + 1 === mix.length ? 0 : next + 1;
    const verdict = policy.evaluate(factsOf(agent, one.request, index));
    const right =
      verdict.kind === 'none' ? one[size] === '' : verdict.rule === one[size] && verdict.kind === one.kind;
    if (!right) wrong += 1;
  }
  const took = performance.now() - started;
  if (wrong > 0) throw new Error(`${wrong} of ${decisionsPerRound} verdicts were wrong`);
  return (took * 1_000) / decisionsPerRound;
}

function measureDecisions(say: (line: string) => void): Figures {
  const few = compile(ten);
  const started = performance.now();
  const many = compile(tenThousand);
  say(`10,000 rules compiled in ${(performance.now() - started).toFixed(0)} ms`);
  const known = few.agent('bench');
  if (known === undefined) throw new Error('the policy has no agent bench');
  const agent: Agent = { ...known, by: 'pod' };
  const fewUs: number[] = [];
  const manyUs: number[] = [];
  // Rounds take turns, so that what the machine does meanwhile meets both.
  for (let round = -roundsWarm; round < rounds; round += 1) {
    const [a, b] = [decideRound(few, agent, 'few'), decideRound(many, agent, 'many')];
    if (round < 0) continue;
    fewUs.push(a);
    manyUs.push(b);
  }
  const [decide, decideMany] = [median(fewUs), median(manyUs)];
  return { decide_us: decide, decide_10k_rules_us: decideMany, ratio: decideMany / decide };
}

const cachedPerRound = 10_000;
const cachedPaths = 200;

/**
 * One round of allows from the cache, in nanoseconds each: facts made anew, key built, snapshot compared. Host
 * and path are cut from a longer text, as off a wire, so that no call finds a string whose hash is known.
 */
function measureCached(): Figures {
  const policy = compile(ten);
  const known = policy.agent('bench');
  if (known === undefined) throw new Error('the policy has no agent bench');
  const cache = createDecisionCache({ ttlMs: 60_000, entriesMax: 10_000 });
  const host = 'api.one.example';
  const lines = Array.from(
    { length: cachedPaths },
    (_, index) => `GET ${host}/v1/things/${100 + index} HTTP`,
  );
  const [pathFrom, pathTo] = [4 + host.length, (lines[0]?.length ?? 0) - 5];
  const freshFacts = (line: string, nowMs: number): RequestFacts => ({
    agent: { ...known, by: 'pod' },
    destination: {
      scheme: 'https',
      host: line.slice(4, pathFrom),
      hostIsAddress: false,
      port: 443,
      method: 'GET',
      path: line.slice(pathFrom, pathTo),
      query: '',
      mcp: { kind: 'none' },
    },
    headers: { accept: '*/*' },
    body: { kind: 'unread' },
    nowMs,
  });
  const roundNs: number[] = [];
  for (let round = -roundsWarm; round < rounds; round += 1) {
    const { hits } = cache.stats();
    let wrong = 0;
    const started = performance.now();
    for (let index = 0; index < cachedPerRound; index += 1) {
      const verdict = cache.evaluate(policy, freshFacts(lines[index % cachedPaths] ?? '', 1_000 + round));
      if (verdict.kind !== 'allow' || verdict.rule !== 'one') wrong += 1;
    }
    const took = performance.now() - started;
    if (wrong > 0) throw new Error(`${wrong} of ${cachedPerRound} cached verdicts were wrong`);
    if (round < 0) continue;
    if (cache.stats().hits - hits !== cachedPerRound)
      throw new Error('a verdict did not come from the cache');
    roundNs.push((took * 1e6) / cachedPerRound);
  }
  return { cached_ns: median(roundNs) };
}

/** Debits from prepaid slices, each slice durable on disk before its first call is granted. */
function measureQuota(): Figures {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'));
  try {
    const db = openDatabase(join(folder, 'state.db'));
    const store = openQuotaStore(db, createClock());
    const debits: readonly Debit[] = Array.from({ length: quotaKeys }, (_, index) => ({
      quota: 'bench',
      key: `bench\u0000agent-${index}`,
      limit: 1_000_000,
      windowMs: 24 * 60 * 60 * 1000,
      kind: 'quota',
    }));
    const pay = (index: number): void => {
      const debit = debits[index % quotaKeys];
      if (debit === undefined || !store.debit([debit]).ok)
        throw new Error('a debit within the limit was refused');
    };
    for (let index = 0; index < quotaCalls; index += 1) pay(index);
    const started = performance.now();
    for (let index = 0; index < quotaCalls; index += 1) pay(index);
    const meanUs = ((performance.now() - started) * 1_000) / quotaCalls;
    // Each call alone, for the tail only: reading the clock twice is part of it.
    const each = new Float64Array(quotaCalls);
    for (let index = 0; index < quotaCalls; index += 1) {
      const from = process.hrtime.bigint();
      pay(index);
      each[index] = Number(process.hrtime.bigint() - from) / 1_000;
    }
    each.sort();
    const counted = debits.reduce((sum, debit) => sum + store.peek(debit).used, 0);
    store.close();
    db.close();
    if (counted !== 3 * quotaCalls)
      throw new Error(`${counted} calls were counted, ${3 * quotaCalls} were made`);
    return { quota_mean_us: meanUs, quota_p99_us: each[Math.floor(quotaCalls * 0.99)] ?? Number.NaN };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const bench: Bench = {
  about: `${rounds} rounds of ${decisionsPerRound} decisions under 10 rules and under 10,000, in turns; ${quotaCalls} debits`,
  bars: [
    { figure: 'cached_ns', at: 'most', value: 168 },
    { figure: 'decide_us', at: 'most', value: 20 },
    { figure: 'ratio', at: 'most', value: 1.5 },
    { figure: 'quota_mean_us', at: 'most', value: 1 },
    { figure: 'quota_p99_us', at: 'most', value: 10 },
  ],
  run: async (say) => ({ ...measureCached(), ...measureDecisions(say), ...measureQuota() }),
};
