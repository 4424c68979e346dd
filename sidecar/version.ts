/** The package: its root and version, from source or from `dist/` (which has a package.json of its own). */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

function findRoot(): string {
  let dir = import.meta.dirname;
  while (!existsSync(path.join(dir, 'package.json'))) {
    const parent = path.dirname(dir);
    if (parent === dir) throw new Error(`no package.json above ${import.meta.dirname}`);
    dir = parent;
  }
  return dir;
}

export const packageRoot = findRoot();

function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8'));
  const version =
    typeof manifest === 'object' && manifest !== null && 'version' in manifest && manifest.version;
  if (typeof version !== 'string') throw new Error(`${packageRoot}/package.json has no version`);
  return version;
}

export const version = readVersion();

/** A file of the package. Packed, `dist/` is the root of the same tree. */
export const packageFile = (relative: string): string => path.join(packageRoot, relative);

/** A program of the package: packing strips types, and the ending tells which of the two runs. */
export const packageProgram = (name: string): string =>
  packageFile(`${name}${path.extname(import.meta.filename)}`);
