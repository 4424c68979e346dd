/**
 * Bounds on what one evaluation can cost, checked on the syntax tree at load. The policy's author is trusted
 * to be sane, the agent is not: it chooses the request, so no expression may cost more than about linear
 * time in the request's size.
 *
 * - Loops (`all`, `exists`, `exists_one`, `map`, `filter`) do not stand in loops, at most `celLoopsMax` stand
 *   side by side, and none names `request` inside.
 * - What is searched for (`contains`, `indexOf`, `lastIndexOf`, `split`, `matches`, `join`) does not come from
 *   the request, since two texts of the agent's making cost their product.
 * - `matches` takes a literal pattern and runs on the linear engine.
 */
import type { ASTNode } from '@marcbachmann/cel-js';
import { limits } from '../../config/limits.ts';
import { createLinearRegex } from './linear-regex.ts';

const loops: ReadonlySet<string> = new Set(['all', 'exists', 'exists_one', 'map', 'filter']);
const searches: ReadonlySet<string> = new Set([
  'contains',
  'indexOf',
  'lastIndexOf',
  'split',
  'matches',
  'join',
]);
/** Of bounded size and not the agent's to choose at length. */
const bounded: ReadonlySet<string> = new Set(['agent', 'destination', 'now']);
const bodyFields: ReadonlySet<string> = new Set(['body_bytes', 'json', 'model']);

export type Mentions = Readonly<{
  request: boolean;
  body: boolean;
  /** Any name beside `agent` and `destination`: the answer may differ between requests of one agent to one host and port. */
  changing: boolean;
}>;

const constant: ReadonlySet<string> = new Set(['agent', 'destination']);

/** Throws an Error that says what was expected. `onMatches` is called with each call of `matches`. */
export function checkBounds(root: ASTNode, onMatches: (call: RcallNode) => void): Mentions {
  let request = false;
  let body = false;
  let changing = false;
  let loopCount = 0;

  /** `forbidden`: names that may not stand here, and why; undefined: any may. */
  const walk = (node: ASTNode, inLoop: boolean): void => {
    if (node.op === 'id') {
      if (!constant.has(node.args)) changing = true;
      if (node.args !== 'request') return;
      if (inLoop)
        throw new Error(
          'a loop over the items alone: `request` cannot be named inside a loop, whose cost would be a product',
        );
      request = true;
      // Reached only where `request` stands whole; a field of it is seen at the access below.
      body = true;
      return;
    }
    if (node.op === '.' && node.args[0].op === 'id' && node.args[0].args === 'request' && !inLoop) {
      request = true;
      changing = true;
      if (bodyFields.has(node.args[1])) body = true;
      return;
    }
    // Its parser tries every way to read a long number.
    if (node.op === 'call' && node.args[0] === 'duration' && !node.args[1].every(isBounded))
      throw new Error('duration() of a literal: it cannot come from the request');
    if (node.op === 'rcall') {
      const [name, receiver, args] = node.args;
      if (name === 'bind') throw new Error('an expression without cel.bind');
      if (searches.has(name))
        for (const argument of args)
          if (!isBounded(argument))
            throw new Error(
              `${name}() of a literal or of agent, destination or now: what is searched for cannot come from the request`,
            );
      if (name === 'matches') {
        const [pattern] = args;
        if (pattern?.op !== 'value' || typeof pattern.args !== 'string')
          throw new Error('matches() of a literal regular expression');
        createLinearRegex(pattern.args);
        onMatches(node);
      }
      if (loops.has(name) && args.length >= 2) {
        if (inLoop) throw new Error(`no loop in a loop; found ${name}() inside another`);
        loopCount += 1;
        if (loopCount > limits.celLoopsMax) throw new Error(`at most ${limits.celLoopsMax} loops`);
        walk(receiver, false);
        for (const argument of args) walk(argument, true);
        return;
      }
    }
    for (const child of childrenOf(node)) walk(child, inLoop);
  };
  walk(root, false);
  return { request, body, changing };
}

export type RcallNode = Extract<ASTNode, { op: 'rcall' }>;

function isBounded(node: ASTNode): boolean {
  if (node.op === 'id') return bounded.has(node.args);
  return childrenOf(node).every(isBounded);
}

const isNode = (value: unknown): value is ASTNode =>
  typeof value === 'object' && value !== null && 'op' in value;

/** Every operand that is a node, at whatever depth of the operand lists. */
function childrenOf(node: ASTNode): ASTNode[] {
  const found: ASTNode[] = [];
  const take = (value: unknown): void => {
    if (isNode(value)) found.push(value);
    else if (Array.isArray(value)) value.forEach(take);
  };
  take(node.args);
  return found;
}
