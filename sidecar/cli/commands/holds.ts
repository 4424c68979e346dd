/** `sallyport holds`: what waits for a person, and their word on it. */
import { z } from 'zod';
import { printable } from '../../../filters/common/printable.ts';
import { commandLineTo } from '../../invocation.ts';
import { type AdminClient, caller, clientOf } from '../client.ts';
import { wholeId } from '../journal.ts';
import {
  CommandFailure,
  createOutput,
  duration,
  exitCodes,
  type Output,
  printableLines,
  table,
} from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings, whereOf } from '../settings.ts';

/** Only what is shown here; the sidecar tells more (`sidecar/admin/hold-json.ts`). */
const holdSchema = z.object({
  id: z.string(),
  state: z.string(),
  agent: z.string(),
  rule: z.string(),
  approvers: z.string(),
  quorum: z.int(),
  reason: z.string(),
  expires_ms: z.number(),
  decided_by: z.string(),
  note: z.string(),
  approvals: z.array(z.object({ by: z.string(), note: z.string() })),
  request: z.object({
    method: z.string(),
    url: z.string(),
    headers: z.record(z.string(), z.string()),
    body_bytes: z.number(),
    body_preview: z.string(),
    mcp: z.string(),
  }),
});
type ShownHold = z.output<typeof holdSchema>;
const pageSchema = z.object({ holds: z.array(holdSchema), next: z.string().optional() });

const open = 'Pending,Approved,Escalated,Unknown';

const clientFor = (flags: Flags): AdminClient => clientOf(commandSettings(flags));

type ListFlags = Flags & Readonly<{ state?: string; agent?: string; limit: number; before?: string }>;

export async function list(flags: ListFlags): Promise<number> {
  const output = createOutput(flags.json === true);
  const query = new URLSearchParams({ limit: String(flags.limit) });
  if (flags.state !== 'all') query.set('state', flags.state ?? open);
  if (flags.agent !== undefined) query.set('agent', flags.agent);
  if (flags.before !== undefined) query.set('before', flags.before);
  const answer = await clientFor(flags).get(`/v1/holds?${query}`);
  output.value(answer);
  const { holds, next } = pageSchema.parse(answer);
  if (holds.length === 0)
    output.line(
      flags.state === 'all'
        ? 'no hold yet'
        : `no hold is ${flags.state ?? 'open; --state all shows those that ended'}`,
    );
  else
    for (const row of table([
      ['HOLD', 'STATE', 'AGENT', 'RULE', 'EXPIRES', 'REQUEST'],
      ...holds.map((hold) => [
        hold.id,
        hold.state,
        hold.agent,
        hold.rule,
        hold.state === 'Pending' || hold.state === 'Approved'
          ? `in ${duration(hold.expires_ms - Date.now())}`
          : '–',
        printable(`${hold.request.method} ${hold.request.url}`, 120),
      ]),
    ]))
      output.line(row);
  if (next !== undefined)
    output.line(`more: ${commandLineTo(whereOf(flags))(`holds list --before ${next}`)}`);
  return exitCodes.ok;
}

const decisions: Readonly<Record<string, string>> = { Approved: 'by', Denied: 'by', Cancelled: 'by' };

function showHold(hold: ShownHold, output: Output): void {
  const { request } = hold;
  // Whoever approved did not send it, and need not have said what became of it.
  const decided = decisions[hold.state] ?? 'approved by';
  output.line(
    `${hold.id} is ${hold.state}${hold.decided_by === '' ? '' : `, ${decided} ${printable(hold.decided_by)}`}`,
  );
  if (hold.note !== '') output.line(`note      ${printable(hold.note)}`);
  output.line(`agent     ${hold.agent}`);
  output.line(`rule      ${hold.rule}${hold.reason === '' ? '' : ` (${printable(hold.reason)})`}`);
  output.line(`approvers ${hold.approvers}, ${hold.approvals.length} of ${hold.quorum} approved`);
  if (hold.state === 'Pending') output.line(`expires   in ${duration(hold.expires_ms - Date.now())}`);
  output.line(`request   ${printable(`${request.method} ${request.url}`, 4_000)}`);
  if (request.mcp !== '') output.line(`mcp       ${printable(request.mcp)}`);
  for (const [name, value] of Object.entries(request.headers))
    output.line(`          ${printable(name, 100)}: ${printable(value)}`);
  output.line(`body      ${request.body_bytes} bytes`);
  if (request.body_preview !== '') output.line(printableLines(request.body_preview));
}

export async function show(text: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const id = wholeId(commandSettings(flags).state_dir, text);
  const answer = await clientFor(flags).get(`/v1/holds/${encodeURIComponent(id)}`);
  output.value(answer);
  showHold(holdSchema.parse(answer), output);
  return exitCodes.ok;
}

/** The one pending hold. With two there is a doubt, and a doubt is not for this command to settle. */
async function onlyPending(client: AdminClient): Promise<string> {
  const { holds } = pageSchema.parse(await client.get('/v1/holds?state=Pending&limit=3'));
  const [first, second] = holds;
  if (first === undefined)
    throw new CommandFailure(
      'no hold is pending',
      '`sallyport holds list --state all` lists those that are decided, too.',
    );
  if (second !== undefined)
    throw new CommandFailure(
      'more than one hold is pending',
      'Name the one that you mean; `sallyport holds list` shows them.',
      exitCodes.usage,
    );
  return first.id;
}

export async function decide(
  action: 'approve' | 'deny' | 'cancel',
  id: string | undefined,
  flags: Flags & Readonly<{ by?: string; note: string }>,
): Promise<number> {
  const output = createOutput(flags.json === true);
  const client = clientFor(flags);
  const which = id ?? (await onlyPending(client));
  const answer = await client.post(`/v1/holds/${encodeURIComponent(which)}/${action}`, {
    by: flags.by ?? caller(),
    note: flags.note,
  });
  output.value(answer);
  const hold = holdSchema.parse(answer);
  const missing = hold.quorum - hold.approvals.length;
  output.line(
    `${hold.id} is ${hold.state}: ${printable(`${hold.request.method} ${hold.request.url}`, 200)}${hold.state === 'Pending' && action === 'approve' ? `; ${missing} more must approve` : ''}`,
  );
  return exitCodes.ok;
}

export async function settle(
  id: string,
  flags: Flags & Readonly<{ by?: string; sent?: boolean; notSent?: boolean }>,
): Promise<number> {
  if ((flags.sent === true) === (flags.notSent === true))
    throw new CommandFailure(
      'say either --sent or --not-sent',
      'Look at the destination first.',
      exitCodes.usage,
    );
  const output = createOutput(flags.json === true);
  const answer = await clientFor(flags).post(`/v1/holds/${encodeURIComponent(id)}/settle`, {
    by: flags.by ?? caller(),
    outcome: flags.sent === true ? 'Sent' : 'NotSent',
  });
  output.value(answer);
  const hold = holdSchema.parse(answer);
  output.line(`${hold.id} is ${hold.state}`);
  return exitCodes.ok;
}
