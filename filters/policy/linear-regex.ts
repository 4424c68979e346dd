/**
 * Regular expressions in time linear in the text, for `matches` in conditions: the pattern is the policy's,
 * the text is the agent's, and a backtracking engine would let the agent stop the sidecar. The syntax is
 * RE2's common part (https://github.com/google/re2/wiki/Syntax); what is left out is an error at load.
 * Thompson, "Regular Expression Search Algorithm", 1968: all alternatives advance together.
 */
import { limits } from '../../config/limits.ts';
import { parseRegex, type RegexNode } from './regex-syntax.ts';

type State =
  | { kind: 'character'; accepts: (code: number) => boolean; next: number }
  | { kind: 'fork'; next: number; other: number }
  | { kind: 'assert'; what: 'start' | 'end' | 'boundary' | 'inside'; next: number }
  | { kind: 'match' };

export type LinearRegex = Readonly<{ test(text: string): boolean }>;

/** Builds the automaton back to front: each part is given the state that follows it. */
function compile(node: RegexNode, next: number, states: State[]): number {
  const add = (state: State): number => {
    if (states.length >= limits.celRegexStatesMax)
      throw new Error(`a regular expression of at most ${limits.celRegexStatesMax} states`);
    states.push(state);
    return states.length - 1;
  };
  switch (node.kind) {
    case 'empty':
      return next;
    case 'character':
      return add({ kind: 'character', accepts: node.accepts, next });
    case 'assert':
      return add({ kind: 'assert', what: node.what, next });
    case 'sequence':
      return node.parts.reduceRight((after, part) => compile(part, after, states), next);
    case 'choice':
      return node.options
        .map((option) => compile(option, next, states))
        .reduceRight((other, start) => add({ kind: 'fork', next: start, other }));
    case 'repeat': {
      let entry = next;
      if (node.max === Number.POSITIVE_INFINITY) {
        const loop: State = { kind: 'fork', next: -1, other: next };
        entry = add(loop);
        loop.next = compile(node.part, entry, states);
      } else {
        for (let count = node.min; count < node.max; count += 1)
          entry = add({ kind: 'fork', next: compile(node.part, entry, states), other: next });
      }
      for (let count = 0; count < node.min; count += 1) entry = compile(node.part, entry, states);
      return entry;
    }
  }
}

const isWord = (code: number): boolean =>
  (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || code === 95 || (code >= 97 && code <= 122);

/** Throws an Error whose message says what was expected. */
export function createLinearRegex(pattern: string): LinearRegex {
  const states: State[] = [{ kind: 'match' }];
  const start = compile(parseRegex(pattern), 0, states);
  return {
    test: (text) => {
      if (text.length * states.length > limits.celRegexStepsMax)
        throw new Error(`matches() would take more than ${limits.celRegexStepsMax} steps on this text`);
      let alive: number[] = [];
      let following: number[] = [];
      /** Position + 1 at which a state was last added. */
      const added = new Uint32Array(states.length);
      const pending: number[] = [];
      let previous = -1;
      let at = 0;
      for (let mark = 1; ; mark += 1) {
        const code = text.codePointAt(at) ?? -1;
        const add = (first: number, list: number[], before: number, after: number, step: number): boolean => {
          pending.push(first);
          for (let index = pending.pop(); index !== undefined; index = pending.pop()) {
            if (added[index] === step) continue;
            added[index] = step;
            const state = states[index];
            if (state === undefined) continue;
            if (state.kind === 'match') {
              pending.length = 0;
              return true;
            }
            if (state.kind === 'character') list.push(index);
            else if (state.kind === 'fork') pending.push(state.other, state.next);
            else {
              const boundary = isWord(before) !== isWord(after);
              const holds =
                state.what === 'start'
                  ? before === -1
                  : state.what === 'end'
                    ? after === -1
                    : state.what === 'boundary'
                      ? boundary
                      : !boundary;
              if (holds) pending.push(state.next);
            }
          }
          return false;
        };
        // An unanchored search: the expression may begin at every position.
        if (add(start, alive, previous, code, mark)) return true;
        if (code === -1) return false;
        const width = code > 0xffff ? 2 : 1;
        const after = text.codePointAt(at + width) ?? -1;
        following.length = 0;
        for (const index of alive) {
          const state = states[index];
          if (
            state?.kind === 'character' &&
            state.accepts(code) &&
            add(state.next, following, code, after, mark + 1)
          )
            return true;
        }
        [alive, following] = [following, alive];
        previous = code;
        at += width;
      }
    },
  };
}
