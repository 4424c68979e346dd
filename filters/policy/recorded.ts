/**
 * The rules over a request that is on record: agent, destination, MCP names and time are known, its headers, query
 * and body are not. What a rule then cannot say is not guessed: the rule is a doubt, beside the verdict of the rest.
 *
 *   verdict  of the rules that match for certain
 *   doubts   rules that may have matched and would have made a stronger outcome
 */
import type { RuleName } from '../common/brand.ts';
import type { Agent, Destination } from '../facts.ts';
import type { RequestFacts, Verdict } from './compiled.ts';
import { Scope } from './condition-scope.ts';
import { uniformFrom } from './path-uniformity.ts';
import { type Rule, strengths } from './rules.ts';
import { hostFits, mcpFits, pathFits, portFits, type Subject, subjectOf } from './target.ts';
import type { TargetIndex } from './target-index.ts';
import { count, createTally, readsRequests, verdictOf } from './verdict.ts';

export type RecordedFacts = Readonly<{
  agent: Agent;
  /** Its query is not looked at. */
  destination: Destination;
  nowMs: number;
  /** Nobody read the message as MCP, so that it may have been one. */
  mcpUnread: boolean;
  /** Of a lease: its requests are all those below this directory, of which `destination` is one. */
  directory: readonly string[] | undefined;
  /** Whether this rule is known to have matched then; undefined where it is not known. */
  matchedThen: (rule: Pick<Rule, 'name' | 'outcome'>) => boolean | undefined;
}>;

export type Doubt = Readonly<{ rule: RuleName; outcome: Rule['outcome']; reads: string }>;

export type RecordedVerdict = Readonly<{ verdict: Verdict; doubts: readonly Doubt[] }>;

const unrecorded = {
  headers: 'the headers',
  query: 'the query',
  body: 'the body',
  mcp: 'the MCP message',
  paths: 'some of the lease’s paths',
} as const;

/** True, false, or what the record does not hold. */
type Match = boolean | Readonly<{ reads: string }>;

export function createRecorded(index: TargetIndex<Rule>): (facts: RecordedFacts) => RecordedVerdict {
  return (facts) => {
    const subject = subjectOf(facts.agent.name, facts.destination);
    // The index narrows by path and MCP message, which here may both be open.
    const isOpen = facts.mcpUnread || facts.directory !== undefined;
    const tally = createTally();
    const open = new Map<Rule, string>();
    for (const rule of new Set(isOpen ? index.byHost(subject) : index.candidates(subject))) {
      if (rule.shadow || !readsRequests(rule)) continue;
      const match = matches(rule, subject, facts);
      if (typeof match === 'object') open.set(rule, match.reads);
      else if (match) count(rule, tally);
    }
    const decided = strengths[tally.best?.outcome ?? 'none'];
    const doubts = [...open]
      .filter(([rule]) => strengths[rule.outcome] > decided)
      .map(([{ name, outcome }, reads]): Doubt => ({ rule: name, outcome, reads }))
      .sort((a, b) => strengths[b.outcome] - strengths[a.outcome] || (a.rule < b.rule ? -1 : 1));
    return { verdict: verdictOf(tally), doubts };
  };
}

function matches(rule: Rule, subject: Subject, facts: RecordedFacts): Match {
  const { target } = rule;
  const { scheme, port, method, mcp } = subject.destination;
  const isHere =
    (target.agents === undefined || target.agents.has(subject.agent)) &&
    (target.schemes === undefined || target.schemes.has(scheme)) &&
    portFits(target, scheme, port) &&
    (target.methods === undefined || target.methods.has(method)) &&
    hostFits(target, subject);
  if (!isHere) return false;
  const covered = pathFits(target, subject);
  const isUniform =
    facts.directory === undefined || uniformFrom(target, facts.directory, covered) <= facts.directory.length;
  if (isUniform && !covered) return false;
  if (target.mcp !== undefined && !facts.mcpUnread && !mcpFits(target, mcp)) return false;
  const known = facts.matchedThen(rule);
  if (known !== undefined) return known;
  if (!isUniform) return conditionFails(rule, facts) ? false : { reads: unrecorded.paths };
  if (target.mcp !== undefined && facts.mcpUnread)
    return conditionFails(rule, facts) ? false : { reads: unrecorded.mcp };
  return conditionMatches(rule, facts);
}

const conditionFails = (rule: Rule, facts: RecordedFacts): boolean => conditionMatches(rule, facts) === false;

/**
 * CEL's `&&` and `||` need only the side that settles them, so a condition may be known though a part is not. An
 * error that has nothing to do with what is missing counts as the rule's outcome says, as in the check.
 */
function conditionMatches(rule: Rule, facts: RecordedFacts): Match {
  if (rule.condition === undefined) return true;
  const missing = new Set<string>();
  const result = rule.condition.run(new Scope(partOfFacts(facts, missing)));
  if (typeof result === 'boolean') return result;
  return missing.size === 0 ? rule.outcome !== 'allow' : { reads: [...missing].join(' and ') };
}

function partOfFacts(facts: RecordedFacts, missing: Set<string>): RequestFacts {
  const absent = (what: keyof typeof unrecorded): never => {
    missing.add(unrecorded[what]);
    throw new Error(`${unrecorded[what]} is not on record`);
  };
  const { agent, destination, nowMs, mcpUnread } = facts;
  return {
    agent,
    nowMs,
    destination: {
      ...destination,
      get path() {
        return facts.directory === undefined ? destination.path : absent('paths');
      },
      get query() {
        return absent('query');
      },
      get mcp() {
        return mcpUnread ? absent('mcp') : destination.mcp;
      },
    },
    get headers() {
      return absent('headers');
    },
    get body() {
      return absent('body');
    },
  };
}
