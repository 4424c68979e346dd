/** Latency against offered load as an SVG: one panel a curve, both axes logarithmic in what they need to be. */
import type { Curve, Point } from './knee.ts';

const panel = { width: 460, height: 300, left: 64, top: 56, gap: 72 } as const;
const series = [
  { name: 'p50', colour: '#2e7d5b', of: (point: Point) => point.p50_us },
  { name: 'p99', colour: '#b07d1a', of: (point: Point) => point.p99_us },
  { name: 'p99.9', colour: '#b3372f', of: (point: Point) => point.p999_us },
] as const;

const short = (value: number): string =>
  value >= 1_000 ? `${Number((value / 1_000).toPrecision(3))}k` : String(value);

function panelOf({ name, points, kneeRps }: Curve, left: number): string {
  const most = Math.max(...points.map((point) => point.offered), 1);
  const values = points.flatMap((point) => series.map(({ of }) => Math.max(of(point), 1)));
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(...values))), low + 1);
  const x = (offered: number): number => left + (offered / most) * panel.width;
  const y = (us: number): number =>
    panel.top + panel.height * (1 - (Math.log10(Math.max(us, 1)) - low) / (high - low));
  const bottom = panel.top + panel.height;
  const parts = [
    `<text x="${left}" y="${panel.top - 14}" font-weight="bold">${name}</text>`,
    `<rect x="${left}" y="${panel.top}" width="${panel.width}" height="${panel.height}" fill="none" stroke="#999"/>`,
  ];
  for (let power = low; power <= high; power += 1) {
    const label = power >= 3 ? `${10 ** (power - 3)} ms` : `${10 ** power} µs`;
    parts.push(
      `<line x1="${left}" x2="${left + panel.width}" y1="${y(10 ** power)}" y2="${y(10 ** power)}" stroke="#e3e3e3"/>`,
      `<text x="${left - 6}" y="${y(10 ** power) + 4}" text-anchor="end">${label}</text>`,
    );
  }
  for (let step = 0; step <= 4; step += 1)
    parts.push(
      `<text x="${x((most * step) / 4)}" y="${bottom + 18}" text-anchor="middle">${short(Math.round((most * step) / 4))}</text>`,
    );
  for (const { name: label, colour, of } of series) {
    const line = points.map((point) => `${x(point.offered).toFixed(1)},${y(of(point)).toFixed(1)}`).join(' ');
    parts.push(`<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const point of points)
      parts.push(
        `<circle cx="${x(point.offered).toFixed(1)}" cy="${y(of(point)).toFixed(1)}" r="2.5" fill="${colour}"/>`,
      );
    parts.push(
      `<text x="${left + 8 + series.findIndex((one) => one.name === label) * 56}" y="${panel.top + 18}" fill="${colour}">${label}</text>`,
    );
  }
  parts.push(
    `<line x1="${x(kneeRps)}" x2="${x(kneeRps)}" y1="${panel.top}" y2="${bottom}" stroke="#222" stroke-dasharray="4 3"/>`,
    `<text x="${x(kneeRps) - 6}" y="${panel.top + 36}" text-anchor="end">knee ${short(kneeRps)}/s</text>`,
    `<text x="${left + panel.width / 2}" y="${bottom + 38}" text-anchor="middle">requests offered per second</text>`,
  );
  return parts.join('');
}

export function kneePlot(curves: readonly Curve[]): string {
  const step = panel.width + panel.left + panel.gap;
  const width = Math.max(1, curves.length) * step;
  const height = panel.top + panel.height + 56;
  const panels = curves.map((curve, index) => panelOf(curve, panel.left + index * step));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12"><title>Latency against offered load, unleased and leased</title><rect width="${width}" height="${height}" fill="#fff"/><text x="16" y="24" font-size="15" font-weight="bold">ext-authz: latency against offered load</text>${panels.join('')}</svg>\n`;
}
