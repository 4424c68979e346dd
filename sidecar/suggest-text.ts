/** Suggestions as a policy file, with what each rule covers in the comments before it. */
import { Document, isMap, isScalar, isSeq, visit } from 'yaml';
import { printable } from '../filters/common/printable.ts';
import type { Suggested, Tried } from './suggest.ts';
import type { Seen } from './suggest-collect.ts';

export type TextHead = Readonly<{
  /** What was looked at, in words: `shadow mode since 2026-11-20 08:00 UTC`. */
  from: string;
  policyFile: string;
}>;

const commentCharsMax = 300;
const comment = (line: string): string => ` ${printable(line, commentCharsMax)}`;

/** A longer list has a line for each of its items. */
const flowCharsMax = 80;

export function suggestionText(
  { fragment, rules, leftOut }: Suggested,
  { from, policyFile }: TextHead,
): string {
  const document = new Document(fragment, { version: '1.2' });
  document.commentBefore = [
    `Suggested by sallyport from ${from}, narrowest first.`,
    `Read each rule before you add it to ${policyFile}: what was asked for is not what should be allowed.`,
    'Agents and approvers stand here to make this a whole policy; add the rules only.',
    ...[...leftOut].map(([why, calls]) => `Without a rule: ${requests(calls)}, as ${why}.`),
  ]
    .map(comment)
    .join('\n');
  visit(document, {
    Seq: (_, list) => {
      if (list.items.every((item) => isScalar(item)) && list.toString().length <= flowCharsMax)
        list.flow = true;
    },
  });
  const listed = document.get('rules');
  if (isSeq(listed))
    for (const [index, item] of listed.items.entries()) {
      const rule = rules[index];
      if (!isMap(item) || rule === undefined) continue;
      item.commentBefore = commentOf(rule).map(comment).join('\n');
      if (index > 0) item.spaceBefore = true;
    }
  for (const section of ['agents', 'approvers', 'rules']) {
    const pair = isMap(document.contents)
      ? document.contents.items.find(({ key }) => isScalar(key) && key.value === section)
      : undefined;
    if (pair !== undefined && isScalar(pair.key)) pair.key.spaceBefore = true;
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

const requests = (count: number): string => (count === 1 ? '1 request' : `${count} requests`);

function commentOf(rule: Tried): string[] {
  const { covers, stopped, outcome, shadowRule, seen } = rule;
  const last = new Date(Math.max(...seen.map(({ lastMs }) => lastMs))).toISOString();
  const mode = rule.rule.mode === 'shadow';
  return [
    `covers ${requests(covers.calls)}${covers.calls > covers.decisions ? ` (${covers.decisions} decisions)` : ''}, the last ${last}`,
    ...(mode
      ? [
          'HTTPS was refused before its requests were seen. In shadow mode they are seen, and denied as before:',
          'suggest again afterwards. If this is not HTTPS, it needs a rule with `inspect: tunnel`.',
        ]
      : []),
    ...(outcome === 'allow'
      ? []
      : [
          `rule ${shadowRule}, in shadow mode, would ${outcome} these; with mode: enforce it does so to all that it is for`,
        ]),
    ...(rule.rule.to.internal === true || mode
      ? []
      : ['where its host has a private or loopback address it needs `internal: true` besides']),
    ...[...stopped].map(([by, calls]) =>
      by === ''
        ? `not covered after all: ${requests(calls)}`
        : `still decided otherwise by rule ${by}: ${requests(calls)}`,
    ),
    ...seen.slice(0, examplesMax).map(exampleOf),
  ];
}

const examplesMax = 3;

function exampleOf({ destination, path, examples, calls }: Seen): string {
  const { scheme, host, port, method, mcp } = destination;
  const asked = mcp.kind === 'call' ? `${method} ${mcp.method} ${mcp.tool}`.trimEnd() : method;
  const authority = host.includes(':') ? `[${host}]` : host;
  const place = scheme === 'tcp' ? `${authority}:${port}` : `${scheme}://${authority}:${port}${path}`;
  return `e.g. ${asked} ${place} (${calls}; ${examples[0] ?? ''})`;
}
