/** `sallyport suggest`: rules for what shadow mode saw, as YAML to read and to take from. Changes nothing. */
import { existsSync } from 'node:fs';
import { limits } from '../../../config/limits.ts';
import type { CompiledPolicy } from '../../../filters/policy/compiled.ts';
import { decisionOf } from '../../replay-record.ts';
import { suggest } from '../../suggest.ts';
import { createCollection } from '../../suggest-collect.ts';
import { suggestionText } from '../../suggest-text.ts';
import { gapsOf, journalOf, progressOn } from '../journal.ts';
import { createOutput, exitCodes } from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';
import { shownTime, sinceMs } from '../since.ts';
import { readBounded, validPolicy } from './check.ts';

type Options = Flags & Readonly<{ since: string; denied?: boolean; policy?: string }>;

type Live = Readonly<{ text: string; policy: CompiledPolicy }>;

/** A policy that is named has to be there; the one of the settings may be elsewhere. */
function livePolicy(file: string, isNamed: boolean): Live | undefined {
  if (!isNamed && !existsSync(file)) return undefined;
  return { policy: validPolicy(file), text: readBounded(file, 'policy', limits.policyBytesMax) };
}

export function suggestCommand(options: Options): number {
  const output = createOutput(options.json === true);
  const since = sinceMs(options.since, Date.now());
  const settings = commandSettings(options);
  const live = livePolicy(settings.policy, options.policy !== undefined);
  /** Of the policy that decided last. */
  let version = '';
  const scan = journalOf(settings.state_dir, { sinceMs: since, onProgress: progressOn(output) });
  const collected = createCollection({ denied: options.denied === true });
  for (const record of scan.records()) {
    const decision = decisionOf(record);
    if (decision === undefined) continue;
    collected.add(decision);
    version = decision.policyVersion || version;
  }
  const suggested = suggest(collected, live);
  if (live !== undefined && version !== '' && version !== live.policy.version)
    output.note(
      `${settings.policy} is policy ${live.policy.version}, and what was recorded last was decided by ${version}: name the one that the sidecar uses with --policy`,
    );
  for (const gap of gapsOf(scan, since)) output.note(gap);
  if (live === undefined)
    output.note(`there is no policy ${settings.policy}: rules are not compared with one`);
  const what = options.denied === true ? 'shadow mode and denials' : 'shadow mode';
  const text = suggestionText(suggested, {
    from: `${what} since ${shownTime(since)}`,
    policyFile: settings.policy,
  });
  output.value({
    since: new Date(since).toISOString(),
    policy: settings.policy,
    suggestions: suggested.rules.map(({ rule, outcome, shadowRule, covers, stopped, seen }) => ({
      rule,
      outcome,
      shadow_rule: shadowRule,
      covers,
      stopped: Object.fromEntries(stopped),
      examples: seen.slice(0, 3).flatMap(({ examples }) => examples.slice(0, 1)),
    })),
    left_out: Object.fromEntries(suggested.leftOut),
    yaml: text,
  });
  if (suggested.rules.length === 0)
    output.note(
      `nothing to suggest from ${what} since ${shownTime(since)}${options.denied === true ? '' : '; --denied looks at what no rule allowed'}`,
    );
  output.line(text.trimEnd());
  return exitCodes.ok;
}
