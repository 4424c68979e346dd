/**
 * `ext-authz`: what checking every call costs, against the same Envoy without it. All of it is the production
 * configuration in real processes (`ext-authz/world.ts`); each answer is looked at while time is taken; rounds of
 * the kinds take turns. Ratios are of wrk's rates where wrk is there. Processor time per request stands beside
 * them: it depends less on what else the machine does.
 *
 * `--knee`: latency against offered load instead (`ext-authz/knee.ts`).
 */
import { knee } from './ext-authz/knee.ts';
import { leaseEndMs } from './ext-authz/lease-end.ts';
import { idle, settles } from './ext-authz/ledger.ts';
import { autocannon, findWrk, type Generator } from './ext-authz/load.ts';
import { cpuMs } from './ext-authz/processes.ts';
import { type Kind, openWorld, type Target, type World } from './ext-authz/world.ts';
import { type Bench, type Figures, median, type Say } from './report.ts';

const kinds: readonly Kind[] = ['bare', 'grpc', 'http', 'leased', 'embedded'];
const rounds = 5;
const connections = 32;
const seconds = 2;
/** V8 has optimised what a check runs after some 20,000 of them; until then one costs up to three times as much. */
const warmSeconds = 8;
const leaseEnds = 5;

/** Values of one figure, a round each. */
type Samples = Map<string, number[]>;
const add = (samples: Samples, figure: string, value: number): void => {
  const list = samples.get(figure);
  if (list === undefined) samples.set(figure, [value]);
  else list.push(value);
};

const hasLedger = ({ kind }: Target): boolean => kind === 'leased' || kind === 'grpc';

/** All loads of one kind in one round. They count only once the ledger has settled every request behind them. */
async function turn(
  world: World,
  target: Target,
  wrk: Generator | undefined,
  samples: Samples,
): Promise<void> {
  const { kind, pids } = target;
  const main = wrk ?? autocannon;
  const before = hasLedger(target)
    ? { ledger: await idle(target), received: await world.received() }
    : undefined;
  // V8 lets go of optimised code while nothing is asked, which is most of a round.
  await main(target, connections, seconds);
  const cpuBefore = Object.entries(pids).map(([name, pid]) => [name, pid, cpuMs(pid)] as const);
  const many = await main(target, connections, seconds);
  add(samples, `${kind}_rps`, many.requests / many.seconds);
  for (const [name, pid, was] of cpuBefore)
    add(samples, `${kind}_${name}_cpu_us`, ((cpuMs(pid) - was) * 1_000) / many.requests);
  if (wrk !== undefined) {
    const node = await autocannon(target, connections, seconds);
    add(samples, `autocannon_${kind}_rps`, node.requests / node.seconds);
  }
  if (kind !== 'http' && kind !== 'embedded')
    add(samples, `${kind === 'grpc' ? 'unleased' : kind}_p50_us`, (await main(target, 1, 1)).p50Us);
  if (before === undefined) return;
  const received = async (): Promise<number> => (await world.received()) - before.received;
  add(samples, `${kind}_settle_ms`, await settles(target, before.ledger, received));
}

async function measure(say: Say): Promise<Figures> {
  const wrk = await findWrk(say);
  const world = await openWorld(kinds, say);
  const samples: Samples = new Map();
  try {
    for (const target of world.targets.values()) await autocannon(target, connections, warmSeconds);
    for (let index = 1; index <= rounds; index += 1) {
      for (const target of world.targets.values()) await turn(world, target, wrk, samples);
      const told = [...world.targets.keys()].map(
        (kind) => `${kind} ${samples.get(`${kind}_rps`)?.at(-1)?.toFixed(0)}`,
      );
      say(`round ${index} of ${rounds}, requests per second: ${told.join(', ')}`);
    }
    const leased = world.targets.get('leased');
    const ends: number[] = [];
    while (leased !== undefined && ends.length < leaseEnds) ends.push(await leaseEndMs(leased));
    return figuresOf(samples, ends, wrk !== undefined);
  } finally {
    await world.close();
  }
}

function figuresOf(samples: Samples, ends: readonly number[], hasWrk: boolean): Figures {
  const of = (figure: string): number | undefined => {
    const values = samples.get(figure);
    return values === undefined ? undefined : median(values);
  };
  const bare = of('bare_rps') ?? Number.NaN;
  const leased = of('leased_rps');
  const unleased = Math.max(of('grpc_rps') ?? 0, of('http_rps') ?? 0);
  const first = [
    ...['bare_rps', 'grpc_rps', 'http_rps', 'leased_rps', 'embedded_rps'],
    ...['bare_p50_us', 'unleased_p50_us', 'leased_p50_us'],
  ];
  const rest = [...samples.keys()].filter((figure) => !first.includes(figure)).sort();
  const medians = (names: readonly string[]): Figures =>
    Object.fromEntries(names.flatMap((name) => [[name, of(name)] as const].filter(hasValue)));
  return {
    ...medians(first),
    ...(leased === undefined ? {} : { leased_ratio: leased / bare }),
    unleased_ratio: unleased / bare,
    // The worst of them: a bound that holds usually is none.
    ...(ends.length === 0 ? {} : { lease_end_ms: Math.max(...ends), lease_end_p50_ms: median(ends) }),
    ...medians(rest),
    wrk: hasWrk ? 1 : 0,
  };
}

const hasValue = (entry: readonly [string, number | undefined]): entry is readonly [string, number] =>
  entry[1] !== undefined;

export const bench: Bench = {
  about: `${rounds} rounds of ${kinds.join(', ')}: ${connections} connections for ${seconds} s, and one connection; or --knee`,
  bars: [
    { figure: 'leased_ratio', at: 'least', value: 0.7 },
    { figure: 'unleased_ratio', at: 'least', value: 0.17 },
    { figure: 'lease_end_ms', at: 'most', value: 1_000 },
  ],
  flags: ['--knee'],
  run: (say, flags) => (flags.includes('--knee') ? knee(say) : measure(say)),
};
