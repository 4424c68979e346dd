/** What settings must agree on with each other, told with the setting to change. */
import { isIP } from 'node:net';
import { limits } from './limits.ts';
import type { FieldPath } from './policy/issue.ts';
import type { Settings } from './settings.ts';
import { telemetryDisagreements } from './settings-telemetry.ts';
import { witnessDisagreements } from './settings-witness.ts';
import { found } from './zod-issues.ts';

export type Disagreement = Readonly<{ path: FieldPath; message: string }>;

export function settingDisagreements(settings: Settings): Disagreement[] {
  const all: Disagreement[] = [];
  const must = (holds: boolean, path: FieldPath, message: string): void => {
    if (!holds) all.push({ path, message });
  };
  const { agent, proxy, resolver, runtime } = settings;
  must(
    agent.envoy_user !== '1337',
    ['agent', 'envoy_user'],
    'expected another user than 1337: Istio’s redirect lets everything of that user pass',
  );
  must(
    agent.user !== agent.envoy_user,
    ['agent', 'user'],
    'expected another user than `agent.envoy_user`: the agent could take the place of Envoy',
  );
  must(
    proxy.tls_port === null || settings.identity.trust_bundle_file !== '',
    ['proxy', 'tls_port'],
    'needs `identity.trust_bundle_file`: without it no client certificate is believed',
  );
  must(
    proxy.tls_port === null || proxy.tls_port === 0 || proxy.tls_port !== proxy.port,
    ['proxy', 'tls_port'],
    'expected another port than `proxy.port`',
  );
  must(
    settings.keys.kek_file === '' || settings.keys.kek_command.length === 0,
    ['keys', 'kek_command'],
    'expected this or `keys.kek_file`, not both',
  );
  must(
    runtime.warm_pool_min <= runtime.warm_pool_max,
    ['runtime', 'warm_pool_min'],
    `expected at most \`runtime.warm_pool_max\`, ${runtime.warm_pool_max}`,
  );
  witnessDisagreements(settings, must);
  telemetryDisagreements(settings, must);
  must(
    settings.audit.tiles_days === null || settings.audit.tiles_days >= settings.audit.retention_days,
    ['audit', 'tiles_days'],
    `expected at least \`audit.retention_days\`, ${settings.audit.retention_days}: content without its proof shows nothing`,
  );
  must(
    settings.audit.content_hours_min <= 24 * settings.audit.retention_days,
    ['audit', 'content_hours_min'],
    `expected at most \`audit.retention_days\`, ${24 * settings.audit.retention_days} hours`,
  );
  for (const [host, addresses] of Object.entries(resolver.hosts)) {
    for (const address of [addresses].flat())
      must(
        isIP(address) !== 0,
        ['resolver', 'hosts', host],
        `expected an IP address, found ${found(address)}`,
      );
  }
  for (const [index, server] of resolver.servers.entries())
    must(
      isServer(server),
      ['resolver', 'servers', index],
      `expected address or address:port, found ${found(server)}`,
    );
  const runDirBytes = Buffer.byteLength(settings.run_dir);
  must(
    runDirBytes <= limits.runDirBytesMax,
    ['run_dir'],
    `expected a path of at most ${limits.runDirBytesMax} bytes, as it holds Unix sockets; found ${runDirBytes} bytes`,
  );
  return all;
}

/** `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]:53` */
function isServer(server: string): boolean {
  if (isIP(server) !== 0) return true;
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(server);
  if (match === null) return false;
  const [, ipv6 = '', ipv4 = '', port] = match;
  const known = ipv6 === '' ? isIP(ipv4) === 4 : isIP(ipv6) === 6;
  return known && Number(port) >= 1 && Number(port) <= 65_535;
}
