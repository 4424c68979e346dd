/** `sallyport status`, `reload` and `decisions`: what runs, and what it decided. */
import { z } from 'zod';
import { printable } from '../../../filters/common/printable.ts';
import { clockTime } from '../../decision-line.ts';
import { statusSchema } from '../../status.ts';
import { createOutput, duration, exitCodes, table } from '../output.ts';
import type { Flags } from '../program.ts';
import { clientOf } from './holds.ts';

export async function status(flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const answer = await clientOf(flags).get('/v1/status');
  output.value(answer);
  const now = statusSchema.parse(answer);
  const pending = now.holds['Pending'] ?? 0;
  output.line(
    `sallyport ${now.version}, pid ${now.pid}, for ${duration(Date.now() - Date.parse(now.started_at))}: ${now.health.status}`,
  );
  for (const row of table([
    ['data plane', `${now.data_plane.kind} (${now.data_plane.reason})`],
    ['proxy', now.data_plane.proxy],
    ...(now.data_plane.proxy_tls === undefined ? [] : [['proxy (mTLS)', now.data_plane.proxy_tls]]),
    ['admin', [now.admin.socket, now.admin.url].filter((part) => part !== undefined).join(' and ')],
    ...now.ext_authz.grpc.map((address) => ['ext_authz gRPC', address]),
    ...now.ext_authz.http.map((address) => ['ext_authz HTTP', address]),
    ['policy', `${now.policy.file}, version ${now.policy.version}, ${now.policy.rules} rules`],
    ['state', now.state_dir],
    ['CA', now.ca.file],
    ['holds', pending === 0 ? 'none pending' : `${pending} pending: sallyport holds list`],
    ...now.health.parts.map((part) => [part.name, `${part.status}: ${printable(part.detail)}`]),
  ]))
    output.line(`  ${row}`);
  for (const issue of now.policy.rejected) output.line(`  the policy file is not valid: ${printable(issue)}`);
  return now.health.status === 'Unhealthy' ? exitCodes.failed : exitCodes.ok;
}

export async function reload(flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const answer = await clientOf(flags).post('/v1/policy/reload');
  output.value(answer);
  const { version, file } = z.object({ version: z.string(), file: z.string() }).parse(answer);
  output.line(`policy ${file} holds, version ${version}`);
  return exitCodes.ok;
}

const decisionsSchema = z.object({
  decisions: z.array(
    z.object({
      id: z.string(),
      at: z.object({ physical_ns: z.string() }),
      kind: z.string(),
      code: z.string(),
      agent: z.string(),
      what: z.string(),
      resource: z.string(),
      rule: z.string(),
    }),
  ),
});

export async function decisions(flags: Flags & Readonly<{ limit: number }>): Promise<number> {
  const output = createOutput(flags.json === true);
  const answer = await clientOf(flags).get(`/v1/decisions?limit=${flags.limit}`);
  output.value(answer);
  const found = decisionsSchema.parse(answer).decisions;
  if (found.length === 0) output.line('no decision yet');
  for (const row of table(
    found.map((decision) => [
      clockTime(Number(BigInt(decision.at.physical_ns) / 1_000_000n)),
      decision.code === '' ? decision.kind : decision.code,
      printable(decision.agent, 60) || '?',
      printable(`${decision.what} ${decision.resource}`, 120),
      decision.rule === '' ? '–' : decision.rule,
      decision.id,
    ]),
  ))
    output.line(row);
  return exitCodes.ok;
}
