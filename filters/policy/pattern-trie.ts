/**
 * Patterns over lists of words (host labels from the right, path segments from the left): `*` is one word,
 * `**` any number of words, none included. A trie finds every pattern that fits in one walk:
 *
 *   root ─ org ─ example ─ api     → rules of api.example.org
 *        │               └ *       → rules of *.example.org
 *        └ **                      → rules of **.org
 *
 * The walk keeps the set of nodes that are alive, as a Thompson automaton does, so that its cost is the
 * number of words times the nodes alive, whatever the patterns and however long the path.
 */
type Node<T> = {
  /** The first exact branch. Most nodes of a large policy have no other, and a map for one is most of its memory. */
  word: string | undefined;
  branch: Node<T> | undefined;
  /** The other exact branches. */
  exact: Map<string, Node<T>> | undefined;
  one: Node<T> | undefined;
  /** Reached by `**`: once alive it stays alive. */
  any: Node<T> | undefined;
  value: T | undefined;
};

export type PatternTrie<T> = Readonly<{
  /** The value at this pattern, made by `create` where there is none yet. */
  ensure(pattern: readonly string[], create: () => T): T;
  /** Adds the value of every pattern that fits to `found`, each once. */
  collect(words: readonly string[], found: T[]): void;
  /**
   * Values of the patterns that fit some list beginning with these words, then of those for which that is so
   * with one word less, and so on. `depth` is the number of words: what it is told with fits nothing that
   * begins with one more of them, but where `depth` is all of them. Ends where `visit` answers false.
   */
  around(words: readonly string[], visit: (value: T, depth: number) => boolean): void;
}>;

const createNode = <T>(): Node<T> => ({
  word: undefined,
  branch: undefined,
  exact: undefined,
  one: undefined,
  any: undefined,
  value: undefined,
});

const branchAt = <T>(node: Node<T>, word: string): Node<T> | undefined =>
  node.word === word ? node.branch : node.exact?.get(word);

function ensureBranch<T>(node: Node<T>, word: string): Node<T> {
  const found = branchAt(node, word);
  if (found !== undefined) return found;
  const made = createNode<T>();
  if (node.branch === undefined) {
    node.word = word;
    node.branch = made;
  } else {
    node.exact ??= new Map();
    node.exact.set(word, made);
  }
  return made;
}

/** A node's value and all below it, but for branches that were visited before. */
function under<T>(
  node: Node<T>,
  depth: number,
  visited: readonly Node<T>[],
  visit: (value: T, depth: number) => boolean,
): boolean {
  if (node.value !== undefined && !visit(node.value, depth)) return false;
  const branch = (child: Node<T> | undefined): boolean =>
    child === undefined || visited.includes(child) || under(child, depth, [], visit);
  if (!branch(node.one) || !branch(node.any) || !branch(node.branch)) return false;
  if (node.exact !== undefined) for (const child of node.exact.values()) if (!branch(child)) return false;
  return true;
}

/** `isOne`: whether `*` may stand for this word. */
export function createPatternTrie<T>(isOne: (word: string) => boolean): PatternTrie<T> {
  const root = createNode<T>();
  return {
    ensure: (pattern, create) => {
      let node = root;
      for (const [index, word] of pattern.entries()) {
        if (word === '**') {
          if (pattern[index - 1] === '**') continue;
          node.any ??= createNode<T>();
          node = node.any;
        } else if (word === '*') {
          node.one ??= createNode<T>();
          node = node.one;
        } else {
          node = ensureBranch(node, word);
        }
      }
      node.value ??= create();
      return node.value;
    },
    collect: (words, found) => {
      const staying: Node<T>[] = [];
      let alive: Node<T>[] = [root];
      if (root.any !== undefined) staying.push(root.any);
      for (const word of words) {
        const next: Node<T>[] = [];
        const one = isOne(word);
        const advance = (node: Node<T>): void => {
          const exact = branchAt(node, word);
          if (exact !== undefined) next.push(exact);
          if (one && node.one !== undefined) next.push(node.one);
        };
        for (const node of alive) advance(node);
        for (const node of staying) advance(node);
        for (const { any } of next) if (any !== undefined && !staying.includes(any)) staying.push(any);
        alive = next;
        if (alive.length === 0 && staying.length === 0) return;
      }
      for (const { value } of alive) if (value !== undefined) found.push(value);
      for (const { value } of staying) if (value !== undefined) found.push(value);
    },
    around: (words, visit) => {
      // Reached without `**`, by number of words. What begins with `**` fits at every depth.
      const levels: Node<T>[][] = [[root]];
      for (const word of words) {
        const next: Node<T>[] = [];
        for (const node of levels.at(-1) ?? []) {
          const exact = branchAt(node, word);
          if (exact !== undefined) next.push(exact);
          if (node.one !== undefined && isOne(word)) next.push(node.one);
        }
        levels.push(next);
      }
      for (const level of levels)
        for (const { any } of level) if (any !== undefined && !under(any, words.length, [], visit)) return;
      for (let depth = words.length; depth >= 0; depth -= 1)
        for (const node of levels[depth] ?? [])
          if (!under({ ...node, any: undefined }, depth, levels[depth + 1] ?? [], visit)) return;
    },
  };
}

/** Whether one pattern fits. Goes back to the last `**` only, so the cost is at most the product of the lengths. */
export function patternFits(
  pattern: readonly string[],
  words: readonly string[],
  isOne: (word: string) => boolean,
): boolean {
  let index = 0;
  let at = 0;
  let resumeIndex = -1;
  let resumeAt = 0;
  while (at < words.length) {
    const wanted = pattern[index];
    const word = words[at];
    if (wanted === '**') {
      index += 1;
      resumeIndex = index;
      resumeAt = at;
    } else if (word !== undefined && (wanted === '*' ? isOne(word) : wanted === word)) {
      index += 1;
      at += 1;
    } else if (resumeIndex >= 0) {
      index = resumeIndex;
      resumeAt += 1;
      at = resumeAt;
    } else {
      return false;
    }
  }
  while (pattern[index] === '**') index += 1;
  return index === pattern.length;
}
