/** What every bench prints: figures, bars, machine; a table and a plot for people, one JSON line for programs. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

export type Figures = Readonly<Record<string, number>>;
/** A bar a figure has to meet. */
export type Bar = Readonly<{ figure: string; at: 'most' | 'least'; value: number }>;
export type Say = (line: string) => void;
/** `say` tells progress on stderr. */
export type Bench = Readonly<{
  about: string;
  bars: readonly Bar[];
  /** Options of its own. */
  flags?: readonly string[];
  run: (say: Say, flags: readonly string[]) => Promise<Figures>;
}>;

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
};

const meets = (bar: Bar, value: number | undefined): boolean =>
  value !== undefined && (bar.at === 'most' ? value <= bar.value : value >= bar.value);

/** Where plots go. */
export const reportFile = (name: string): string => {
  const file = join(import.meta.dirname, 'report', `${name}.svg`);
  mkdirSync(dirname(file), { recursive: true });
  return file;
};

/** Runs one bench and prints it. Returns whether every bar was met. */
export async function run(
  name: string,
  bench: Bench,
  { json, flags }: Readonly<{ json: boolean; flags: readonly string[] }>,
): Promise<boolean> {
  const say: Say = (line) => void process.stderr.write(`bench ${name}: ${line}\n`);
  say(bench.about);
  const figures = await bench.run(say, flags);
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    arch: arch(),
    kernel: release(),
    node: process.versions.node,
  };
  // With an option of its own a bench measures something else, which has no bars.
  const bars = flags.length > 0 ? [] : bench.bars;
  const missed = bars.filter((bar) => !meets(bar, figures[bar.figure]));
  if (json) {
    process.stdout.write(
      `${JSON.stringify({ bench: name, figures, bars_missed: missed.map((bar) => bar.figure), machine })}\n`,
    );
    return missed.length === 0;
  }
  const width = Math.max(...Object.keys(figures).map((figure) => figure.length));
  for (const [figure, value] of Object.entries(figures)) {
    const bar = bars.find((one) => one.figure === figure);
    const told =
      bar === undefined ? '' : `  bar: at ${bar.at} ${bar.value}${missed.includes(bar) ? '  MISSED' : ''}`;
    process.stdout.write(`${figure.padEnd(width)}  ${Number(value.toPrecision(4))}${told}\n`);
  }
  process.stdout.write(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memory_gib} GiB, Node ${machine.node}\n`,
  );
  if (flags.length > 0) return true;
  const file = reportFile(name);
  writeFileSync(file, plot(name, figures, bench.bars));
  process.stdout.write(`plot: ${file}\n`);
  return missed.length === 0;
}

/** One horizontal bar a figure, each on its own scale, with its bar as a line. */
function plot(name: string, figures: Figures, bars: readonly Bar[]): string {
  const rows = Object.entries(figures);
  const rowHeight = 34;
  const height = 48 + rows.length * rowHeight;
  const parts = rows.map(([figure, value], index) => {
    const bar = bars.find((one) => one.figure === figure);
    const scale = 320 / Math.max(value, bar?.value ?? 0, 1e-9);
    const y = 40 + index * rowHeight;
    const colour = bar === undefined ? '#7a8699' : meets(bar, value) ? '#2e7d5b' : '#b3372f';
    const line =
      bar === undefined
        ? ''
        : `<line x1="${220 + bar.value * scale}" x2="${220 + bar.value * scale}" y1="${y - 4}" y2="${y + 20}" stroke="#222" stroke-dasharray="3 2"/>`;
    return `<text x="210" y="${y + 13}" text-anchor="end">${figure}</text><rect x="220" y="${y}" width="${Math.max(1, value * scale)}" height="16" rx="2" fill="${colour}"/>${line}<text x="${228 + Math.max(value, bar?.value ?? 0) * scale}" y="${y + 13}">${Number(value.toPrecision(4))}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="640" height="${height}" font-family="sans-serif" font-size="12"><title>bench ${name}</title><rect width="640" height="${height}" fill="#fff"/><text x="16" y="22" font-size="15" font-weight="bold">bench ${name}</text>${parts.join('')}</svg>\n`;
}
