/** What the data plane has to read of requests before the check, by host pattern and by host and path. */
import { isIP } from 'node:net';
import type { Steps } from '../common/slices.ts';
import type { CompiledPolicy, Needs } from './compiled.ts';
import type { Rule } from './rules.ts';
import { hostFits, pathFits, type Subject, subjectOf } from './target.ts';
import { indexTargets, type TargetIndex } from './target-index.ts';
import { readsRequests } from './verdict.ts';

/** A hold binds to the body's bytes; a condition may read them. A shadow hold is never opened. */
const needsBody = (rule: Rule): boolean =>
  (rule.outcome === 'hold' && !rule.shadow) || rule.condition?.mentions.body === true;

const everyPath = ['/**'];

export function* compileNeeds(
  rules: readonly Rule[],
  index: TargetIndex<Rule>,
): Steps<Pick<CompiledPolicy, 'needs' | 'needsOf' | 'inspectable'>> {
  const reading = rules.filter(readsRequests);
  const needy = reading.filter((rule) => needsBody(rule) || rule.target.mcp !== undefined);
  const byHost = new Map<
    string,
    { body: boolean; everyMethod: boolean; methods: Set<string>; paths: Set<string> }
  >();
  for (const rule of needy) {
    yield;
    const paths = rule.target.paths?.map((path) => path.text) ?? everyPath;
    for (const { text } of rule.target.hosts ?? []) {
      const need = byHost.get(text) ?? {
        body: false,
        everyMethod: false,
        methods: new Set(),
        paths: new Set(),
      };
      byHost.set(text, need);
      if (needsBody(rule)) {
        need.body = true;
        need.everyMethod ||= rule.target.methods === undefined;
        for (const method of rule.target.methods ?? []) need.methods.add(method);
      }
      if (rule.target.mcp !== undefined) for (const path of paths) need.paths.add(path);
    }
  }
  const needs: Needs[] = [...byHost].map(([host, { body, everyMethod, methods, paths }]) => ({
    host,
    body,
    ...(body && !everyMethod ? { bodyMethods: [...methods].sort() } : {}),
    mcpPaths: [...paths],
  }));
  const needyIndex = yield* indexTargets(needy, (rule) => rule.target);
  return {
    needs,
    needsOf: (host, path, method) => {
      const subject = bareSubject(host, path);
      let body = false;
      let mcp = false;
      for (const rule of needyIndex.byHost(subject)) {
        if (!hostFits(rule.target, subject) || !pathFits(rule.target, subject)) continue;
        if (rule.target.methods !== undefined && !rule.target.methods.has(method)) continue;
        if (needsBody(rule)) body = true;
        if (rule.target.mcp !== undefined) mcp = true;
      }
      return { body, mcp };
    },
    inspectable: inspectableBy(index),
  };
}

/**
 * A certificate is minted where requests may pass once they are read, or where a forbid has to read what
 * another rule would pass unread. A forbid alone mints nothing: `forbid` on `**` is not a licence to mint.
 */
function inspectableBy(index: TargetIndex<Rule>): CompiledPolicy['inspectable'] {
  return (host) => {
    const subject = bareSubject(host, '');
    let unread = false;
    let reads = false;
    for (const rule of index.byHost(subject)) {
      if (!hostFits(rule.target, subject)) continue;
      if (rule.outcome === 'forbid') reads ||= !rule.shadow;
      else if (rule.inspect === 'tls') return true;
      else unread ||= !rule.shadow;
    }
    return unread && reads;
  };
}

/** Host and path alone; the other dimensions are not compared. */
const bareSubject = (host: string, path: string): Subject =>
  subjectOf('', {
    scheme: 'https',
    host,
    hostIsAddress: isIP(host) !== 0,
    port: 443,
    method: '',
    path,
    query: '',
    mcp: { kind: 'none' },
  });
