/** `sallyport status` and `reload`: what runs. */
import { z } from 'zod';
import { printable } from '../../../filters/common/printable.ts';
import { commandLineTo } from '../../invocation.ts';
import { readLockdown } from '../../lockdown.ts';
import { statusSchema } from '../../status.ts';
import { clientOf, NotRunning } from '../client.ts';
import { createOutput, duration, exitCodes, table } from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings, whereOf } from '../settings.ts';

/** A lockdown outlives its sidecar: whoever finds none running is told that the next one starts locked. */
const alsoLocked =
  (stateDir: string) =>
  (thrown: unknown): never => {
    const locked = thrown instanceof NotRunning ? readLockdown(stateDir, 'some time ago') : undefined;
    if (!(thrown instanceof NotRunning) || locked === undefined) throw thrown;
    const { since, by, reason } = locked;
    throw new NotRunning(
      `${thrown.message}\nLOCKED since ${since} by ${by}: ${reason || 'no reason given'}; the next sidecar starts locked`,
      thrown.next,
    );
  };

export async function status(flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const settings = commandSettings(flags);
  const answer = await clientOf(settings).get('/v1/status').catch(alsoLocked(settings.state_dir));
  output.value(answer);
  const now = statusSchema.parse(answer);
  const pending = now.holds['Pending'] ?? 0;
  output.line(
    `sallyport ${now.version}, pid ${now.pid}, for ${duration(Date.now() - Date.parse(now.started_at))}: ${now.health.status}`,
  );
  if (now.lockdown !== undefined)
    output.line(
      `LOCKED since ${now.lockdown.since} by ${printable(now.lockdown.by)}: ${printable(now.lockdown.reason) || 'no reason given'}; \`${commandLineTo(whereOf(flags))('lockdown --lift')}\` lifts it`,
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
    [
      'holds',
      pending === 0 ? 'none pending' : `${pending} pending: ${commandLineTo(whereOf(flags))('holds list')}`,
    ],
  ]))
    output.line(`  ${row}`);
  output.line('health');
  for (const row of table(now.health.parts.map((part) => [part.name, part.status, printable(part.detail)])))
    output.line(`  ${row}`);
  for (const issue of now.policy.rejected) output.line(`  the policy file is not valid: ${printable(issue)}`);
  return now.health.status === 'Unhealthy' ? exitCodes.failed : exitCodes.ok;
}

export async function reload(flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const answer = await clientOf(commandSettings(flags)).post('/v1/policy/reload');
  output.value(answer);
  const { version, file } = z.object({ version: z.string(), file: z.string() }).parse(answer);
  output.line(`policy ${file} holds, version ${version}`);
  return exitCodes.ok;
}
