/** Where a record stands in the audit log, and whether the log's newest checkpoint proves it. */
import { existsSync } from 'node:fs';
import { toSallyportError } from '../config/errors.ts';
import type { Found } from '../filters/audit/find.ts';
import { auditDirectory } from '../filters/audit/identity.ts';
import { contentDigest, decodeLeaf } from '../filters/audit/leaf.ts';
import { readCheckpoint } from '../filters/audit/log.ts';
import { inclusionPath, leafHash, rootOfInclusion } from '../filters/audit/merkle.ts';
import { createTileReader } from '../filters/audit/tile-reader.ts';

export type TraceProof =
  /** `proven`: its line is what the leaf commits to, and the leaf leads to the signed root. */
  | Readonly<{ kind: 'leaf'; index: number; tree_size: number; origin: string; proven: boolean; why: string }>
  | Readonly<{ kind: 'waiting'; index: number | null; tree_size: number }>
  | Readonly<{ kind: 'no log' }>
  | Readonly<{ kind: 'unreadable'; why: string }>;

export function proofOf(stateDir: string, found: Found): TraceProof {
  const directory = auditDirectory(stateDir);
  if (!existsSync(directory)) return { kind: 'no log' };
  try {
    return proved(directory, found);
  } catch (thrown) {
    return { kind: 'unreadable', why: toSallyportError(thrown, 'StateUnavailable').message };
  }
}

function proved(directory: string, { index, line, placed }: Found): TraceProof {
  const checkpoint = readCheckpoint(directory);
  if (checkpoint === undefined) return { kind: 'waiting', index: index ?? null, tree_size: 0 };
  const { size, root, origin } = checkpoint;
  if (index === undefined || index >= size) return { kind: 'waiting', index: index ?? null, tree_size: size };
  const reader = createTileReader(directory, size);
  const entry = reader.entry(index);
  const hasPath = rootOfInclusion(
    index,
    size,
    leafHash(entry),
    inclusionPath(index, size, reader.subtree),
  )?.equals(root);
  const leaf = decodeLeaf(entry.toString('utf8'));
  const salt = line.kind === 'record' ? line.sequenced?.salt : undefined;
  const isSame =
    leaf !== undefined && salt !== undefined && contentDigest(salt, placed.bytes) === leaf.digest;
  const why =
    hasPath !== true
      ? 'the leaf does not lead to the root of the checkpoint'
      : isSame
        ? ''
        : 'the leaf commits to another line';
  return { kind: 'leaf', index, tree_size: size, origin, proven: why === '', why };
}
