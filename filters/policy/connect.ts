/**
 * What a CONNECT may become, before any request is seen.
 *
 *   a forbid that needs nothing of a request  → refused
 *   an enforced rule lets requests pass       → intercepted: each request inside is decided by `tls` rules only
 *   `sni`, else `tunnel` allows               → passed unread, unless a forbid has to read first
 *   a shadow rule reads requests              → intercepted, so that what it would do can be told
 *   nothing                                   → refused
 */
import type { Agent, Destination } from '../facts.ts';
import type { ConnectVerdict, Verdict } from './compiled.ts';
import { Scope } from './condition-scope.ts';
import type { Rule } from './rules.ts';
import { hostFits, portFits, type Subject } from './target.ts';
import type { TargetIndex } from './target-index.ts';
import { conditionHolds, count, createTally, type Tally, verdictOf } from './verdict.ts';

const requestPort = (rule: Rule, scheme: 'http' | 'https', port: number): boolean =>
  (rule.target.schemes === undefined || rule.target.schemes.has(scheme)) &&
  portFits(rule.target, scheme, port);

/** Whether some request on this port could be the rule's: TLS, or HTTP in the clear. */
const couldRead = (rule: Rule, port: number): boolean =>
  requestPort(rule, 'https', port) || requestPort(rule, 'http', port);

const unreadPort = (rule: Rule, port: number): boolean =>
  portFits(rule.target, rule.inspect === 'sni' ? 'https' : 'tcp', port);

/** Nothing of a request is needed to know that it is forbidden. */
const forbidsAll = (rule: Rule): boolean =>
  rule.outcome === 'forbid' &&
  rule.condition === undefined &&
  rule.target.methods === undefined &&
  rule.target.paths === undefined &&
  rule.target.mcp === undefined &&
  rule.target.schemes === undefined;

export function decideConnect(
  index: TargetIndex<Rule>,
  subject: Subject,
  agent: Agent,
  destination: Destination,
  nowMs: number,
): ConnectVerdict {
  const { port } = destination;
  const scope = new Scope({ agent, destination, headers: {}, body: { kind: 'unread' }, nowMs });
  const forbids = createTally();
  const unread: Record<'sni' | 'tunnel', Tally> = { sni: createTally(), tunnel: createTally() };
  const shadowed = createTally();
  let letsPass = false;
  let mustRead = false;
  let shadowReads = false;

  for (const rule of index.byHost(subject)) {
    const { target } = rule;
    if (target.agents !== undefined && !target.agents.has(subject.agent)) continue;
    if (!hostFits(target, subject)) continue;
    if (rule.outcome === 'forbid') {
      if (!couldRead(rule, port) && !(rule.inspect === 'tunnel' && unreadPort(rule, port))) continue;
      if (forbidsAll(rule)) count(rule, rule.shadow ? shadowed : forbids);
      else if (!rule.shadow) mustRead = true;
    } else if (rule.inspect === 'tls') {
      if (!couldRead(rule, port)) continue;
      if (rule.shadow) shadowReads = true;
      else letsPass = true;
    } else if (unreadPort(rule, port) && conditionHolds(rule, scope)) {
      count(rule, rule.shadow ? shadowed : unread[rule.inspect]);
    }
  }

  const told = (tally: Tally): Verdict => verdictOf({ ...tally, shadow: shadowed.shadow });
  const forbidden = told(forbids);
  if (forbidden.kind === 'forbid') return { kind: 'forbid', verdict: forbidden };
  if (letsPass) return { kind: 'intercept' };
  for (const inspect of ['sni', 'tunnel'] as const) {
    const verdict = told(unread[inspect]);
    if (verdict.kind === 'allow')
      return mustRead ? { kind: 'intercept' } : { kind: 'unread', inspect, verdict };
  }
  if (shadowReads) return { kind: 'intercept' };
  return { kind: 'none', shadow: forbidden.shadow };
}
