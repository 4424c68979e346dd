/**
 * Paths that were seen → the fewest globs that are still narrow. Each path carries what was done there; paths with
 * the same are one rule in the end.
 *
 *   /v1/users/17   ┐
 *   /v1/users/23   ├  from `suggestIdsMin` different ids at one place on:  /v1/users/*
 *   …              ┘
 *   /v1/models        stays as it is
 */
import { limits } from '../config/limits.ts';
import { looksLikeId } from '../filters/common/path-secrets.ts';

/** `uses`: by what was done (method, MCP method and tool), whatever was counted of it. */
type Node<T> = { children: Map<string, Node<T>>; uses: Map<string, T> };

export type PathUses<T> = Readonly<{ path: string; uses: ReadonlyMap<string, T> }>;

export type PathTree<T> = Readonly<{
  /** `create` makes what is counted there for this use; the same is given for the same path and use. */
  at(path: string, use: string, create: () => T): T;
  /** Globs with what was done there; `merge` joins what was counted of two paths that became one. */
  globs(merge: (into: T, from: T) => T): PathUses<T>[];
}>;

const createNode = <T>(): Node<T> => ({ children: new Map(), uses: new Map() });

export function createPathTree<T>(): PathTree<T> {
  const root = createNode<T>();
  return {
    at: (path, use, create) => {
      let node = root;
      for (const segment of path.slice(1).split('/')) {
        const child = node.children.get(segment) ?? createNode<T>();
        node.children.set(segment, child);
        node = child;
      }
      const found = node.uses.get(use) ?? create();
      node.uses.set(use, found);
      return found;
    },
    globs: (merge) => {
      generalise(root, merge);
      return [...leavesOf(root, '')].sort((a, b) => (a.path < b.path ? -1 : 1));
    },
  };
}

/** `*` stands for a segment that is there: an empty one (`//`, a slash at the end) stays as it is. */
function generalise<T>(node: Node<T>, merge: (into: T, from: T) => T): void {
  const names = [...node.children.keys()].filter((name) => name !== '' && name !== '*');
  const ids = names.filter(looksLikeId);
  const merged =
    names.length >= limits.suggestNamesMin ? names : ids.length >= limits.suggestIdsMin ? ids : [];
  for (const name of merged) {
    const child = node.children.get(name);
    if (child === undefined) continue;
    node.children.delete(name);
    const star = node.children.get('*') ?? createNode<T>();
    node.children.set('*', star);
    join(star, child, merge);
  }
  for (const child of node.children.values()) generalise(child, merge);
}

function join<T>(into: Node<T>, from: Node<T>, merge: (into: T, from: T) => T): void {
  for (const [use, value] of from.uses) {
    const there = into.uses.get(use);
    into.uses.set(use, there === undefined ? value : merge(there, value));
  }
  for (const [name, child] of from.children) {
    const there = into.children.get(name);
    if (there === undefined) into.children.set(name, child);
    else join(there, child, merge);
  }
}

function* leavesOf<T>(node: Node<T>, path: string): Generator<PathUses<T>> {
  if (node.uses.size > 0) yield { path, uses: node.uses };
  for (const [name, child] of node.children) yield* leavesOf(child, `${path}/${name}`);
}
