/**
 * Latency against offered load, unleased and leased: where the knee is. Loads are parts of the rate that a closed
 * loop reaches; each is offered for some seconds at a constant rate by a process of its own (`open-loop.ts`).
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Figures, reportFile, type Say } from '../report.ts';
import { kneePlot } from './knee-plot.ts';
import { autocannon, environment, findWrk } from './load.ts';
import { type Kind, openWorld, type Target } from './world.ts';

const parts = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
const seconds = 4;
const connections = 64;
const closedConnections = 32;
/** The knee is the largest load whose 99th percentile is within this many times the median of the least load. */
const kneeTimes = 10;

const pointSchema = z.object({
  requests: z.number(),
  rps: z.number(),
  wrong: z.number(),
  backlog: z.number(),
  p50_us: z.number(),
  p99_us: z.number(),
  p999_us: z.number(),
});
export type Point = z.output<typeof pointSchema> & Readonly<{ offered: number }>;
export type Curve = Readonly<{ name: string; points: readonly Point[]; kneeRps: number }>;

function offer(target: Target, rate: number): Promise<Point> {
  const script = join(import.meta.dirname, 'open-loop.ts');
  const args = [script, String(rate), String(seconds), String(connections)];
  const child = spawn(process.execPath, args, {
    env: environment(target),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8');
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      const line = /^RESULT (.*)$/m.exec(out)?.[1];
      const point = line === undefined ? undefined : pointSchema.parse(JSON.parse(line));
      if (point === undefined || point.wrong > 0)
        reject(
          new Error(
            `${target.kind} at ${rate}/s: ${point === undefined ? 'no result' : `${point.wrong} wrong answers`}`,
          ),
        );
      else resolve({ ...point, offered: rate });
    });
  });
}

/** The load is held where what was answered is what was offered, as nearly as a few seconds tell. */
const isHeld = ({ rps, offered, backlog }: Point): boolean => backlog === 0 && rps > 0.97 * offered;

function kneeOf(points: readonly Point[]): number {
  const most = kneeTimes * (points[0]?.p50_us ?? 0);
  return points.findLast((point) => isHeld(point) && point.p99_us <= most)?.offered ?? 0;
}

async function curveOf(name: string, target: Target, say: Say): Promise<Curve> {
  const wrk = await findWrk(say);
  await autocannon(target, closedConnections, 3);
  const closed = await (wrk ?? autocannon)(target, closedConnections, 3);
  const most = closed.requests / closed.seconds;
  say(`${name}: ${most.toFixed(0)} requests per second in a closed loop of ${closedConnections} connections`);
  const points: Point[] = [];
  for (const part of parts) {
    const point = await offer(target, Math.round(most * part));
    points.push(point);
    const ms = (us: number): string => (us / 1_000).toFixed(2);
    say(
      `${name}: ${point.offered}/s offered, ${point.rps.toFixed(0)}/s answered, p50 ${ms(point.p50_us)} ms, p99 ${ms(point.p99_us)} ms, p99.9 ${ms(point.p999_us)} ms`,
    );
  }
  return { name, points, kneeRps: kneeOf(points) };
}

export async function knee(say: Say): Promise<Figures> {
  const names: readonly (readonly [Kind, string])[] = [
    ['grpc', 'unleased'],
    ['leased', 'leased'],
  ];
  const world = await openWorld(
    names.map(([kind]) => kind),
    say,
  );
  try {
    const curves: Curve[] = [];
    for (const [kind, name] of names) {
      const target = world.targets.get(kind);
      if (target !== undefined) curves.push(await curveOf(name, target, say));
    }
    const file = reportFile('ext-authz-knee');
    writeFileSync(file, kneePlot(curves));
    say(`plot: ${file}`);
    return Object.fromEntries(
      curves.flatMap(({ name, points, kneeRps }) => {
        const at = points.find(({ offered }) => offered === kneeRps);
        const figures: [string, number][] = [[`${name}_knee_rps`, kneeRps]];
        if (at !== undefined)
          figures.push(
            [`${name}_knee_p50_us`, at.p50_us],
            [`${name}_knee_p99_us`, at.p99_us],
            [`${name}_knee_p999_us`, at.p999_us],
          );
        return figures;
      }),
    );
  } finally {
    await world.close();
  }
}
