/** `npm run bench -- NAME [--json]`: one bench by name; the last line of `--json` is one JSON object. */
import { type Bench, run } from './report.ts';

const benches: Readonly<Record<string, () => Promise<{ bench: Bench }>>> = {
  decide: () => import('./decide.ts'),
  start: () => import('./start.ts'),
};

const args = process.argv.slice(2);
const names = args.filter((arg) => !arg.startsWith('-'));
const unknown = args.filter((arg) => arg.startsWith('-') && arg !== '--json');
const name = names[0];
const load = name === undefined ? undefined : benches[name];
if (
  args.includes('--help') ||
  load === undefined ||
  name === undefined ||
  names.length > 1 ||
  unknown.length > 0
) {
  process.stderr.write(
    `usage: npm run bench -- NAME [--json]\nbenches: ${Object.keys(benches).join(', ')}\n`,
  );
  process.exit(args.includes('--help') ? 0 : 2);
}
const { bench } = await load();
process.exit((await run(name, bench, args.includes('--json'))) ? 0 : 1);
