/**
 * Fills `dist/` for `npm pack`: every source with its types stripped (Node 24 and later runs it), data files beside
 * them. Line and column numbers stay, because types are replaced by spaces.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';

const root = dirname(import.meta.dirname);
const target = join(root, 'dist');
const rooms = ['config', 'filters', 'ext-authz', 'envoy', 'sidecar', 'examples', 'docs/schema'];

rmSync(target, { recursive: true, force: true });
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', ...rooms], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && !file.endsWith('.d.ts') && existsSync(join(root, file)));

let stripped = 0;
for (const file of files) {
  const isSource = file.endsWith('.ts');
  const to = join(target, isSource ? file.replace(/\.ts$/, '.js') : file);
  mkdirSync(dirname(to), { recursive: true });
  if (!isSource) {
    cpSync(join(root, file), to);
    continue;
  }
  const code = stripTypeScriptTypes(readFileSync(join(root, file), 'utf8'));
  writeFileSync(to, code.replace(/((?:from|import)\s*\(?\s*'\.[^']*)\.ts'/g, "$1.js'"));
  stripped += 1;
}
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
writeFileSync(
  join(target, 'package.json'),
  `${JSON.stringify({ type: 'module', version: manifest.version }, null, 2)}\n`,
);
process.stderr.write(
  `pack: ${stripped} sources stripped, ${files.length - stripped} files copied to dist/\n`,
);
