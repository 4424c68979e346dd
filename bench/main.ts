/** `npm run bench -- NAME [--json] [FLAG]`: one bench by name; the last line of `--json` is one JSON object. */
import { type Bench, run } from './report.ts';

const benches: Readonly<Record<string, () => Promise<{ bench: Bench }>>> = {
  audit: () => import('./audit.ts'),
  decide: () => import('./decide.ts'),
  'ext-authz': () => import('./ext-authz.ts'),
  start: () => import('./start.ts'),
};

const args = process.argv.slice(2);
const names = args.filter((arg) => !arg.startsWith('-'));
const flags = args.filter((arg) => arg.startsWith('-') && arg !== '--json' && arg !== '--help');
const name = names[0];
const load = name === undefined ? undefined : benches[name];
const usage = (known: readonly string[]): never => {
  const own = known.map((flag) => ` [${flag}]`).join('');
  process.stderr.write(
    `usage: npm run bench -- ${name ?? 'NAME'} [--json]${own}\nbenches: ${Object.keys(benches).join(', ')}\n`,
  );
  return process.exit(args.includes('--help') ? 0 : 2);
};
if (load === undefined || name === undefined || names.length > 1) usage([]);
else {
  const { bench } = await load();
  const known = bench.flags ?? [];
  if (args.includes('--help') || flags.some((flag) => !known.includes(flag))) usage(known);
  process.exit((await run(name, bench, { json: args.includes('--json'), flags })) ? 0 : 1);
}
