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
}>;

const createNode = <T>(): Node<T> => ({ exact: undefined, one: undefined, any: undefined, value: undefined });

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
          node.exact ??= new Map();
          let next = node.exact.get(word);
          if (next === undefined) {
            next = createNode<T>();
            node.exact.set(word, next);
          }
          node = next;
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
          const exact = node.exact?.get(word);
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
