/** Envoy's admin interface over its Unix socket: what is ready, what is applied, and reopening the logs. */
import { stat } from 'node:fs/promises';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { LogState } from '../ext-authz/lease-proof.ts';
import { request } from '../filters/common/node-http.ts';

export type AdminClient = Readonly<{
  /** True once Envoy serves. False where it does not answer. */
  ready(): Promise<boolean>;
  /** Version text of each applied resource, by `kind/name`. */
  versions(): Promise<ReadonlyMap<string, string>>;
  /** What Envoy says of resources that it refused. */
  failures(): Promise<readonly string[]>;
  /** True where the listener of this name takes connections. */
  listens(name: string): Promise<boolean>;
  reopenLogs(): Promise<void>;
  /** How much of what was logged is not in this file yet. Undefined where Envoy does not say. */
  logState(file: string): Promise<LogState | undefined>;
}>;

export function adminClient(socketPath: string): AdminClient {
  const call = (method: string, path: string): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const fail = (cause: unknown): void =>
        reject(
          new SallyportError('ServiceUnavailable', `Envoy's admin socket does not answer ${path}`, { cause }),
        );
      const sent = request(
        {
          socketPath,
          method,
          path,
          headers: { host: 'envoy' },
          timeout: limits.envoyAdminReplyMs,
          agent: false,
        },
        (response) => {
          const parts: Buffer[] = [];
          let bytes = 0;
          response.on('data', (part: Buffer) => {
            bytes += part.length;
            if (bytes > limits.envoyAdminReplyBytesMax) sent.destroy(new Error('the reply is too large'));
            else parts.push(part);
          });
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString('utf8') }),
          );
          response.on('error', fail);
        },
      );
      sent.on('timeout', () => sent.destroy(new Error('time-out')));
      sent.on('error', fail);
      sent.end();
    });

  const dump = async (resource: string, mask: string): Promise<readonly unknown[]> => {
    const { status, body } = await call('GET', `/config_dump?resource=${resource}&mask=${mask}`);
    if (status !== 200) return [];
    const parsed: unknown = JSON.parse(body);
    const configs = field(parsed, 'configs');
    return Array.isArray(configs) ? configs : [];
  };

  return {
    ready: async () => {
      try {
        return (await call('GET', '/ready')).status === 200;
      } catch (thrown) {
        if (thrown instanceof SallyportError) return false;
        throw thrown;
      }
    },
    versions: async () => {
      const found = new Map<string, string>();
      const add = (kind: string, name: unknown, version: unknown): void => {
        if (typeof name === 'string' && typeof version === 'string') found.set(`${kind}/${name}`, version);
      };
      for (const item of await dump('dynamic_listeners', 'name,active_state.version_info'))
        add('listener', field(item, 'name'), field(field(item, 'active_state'), 'version_info'));
      for (const item of await dump('dynamic_active_clusters', 'version_info,cluster.name'))
        add('cluster', field(field(item, 'cluster'), 'name'), field(item, 'version_info'));
      for (const item of await dump('dynamic_route_configs', 'version_info,route_config.name'))
        add('route', field(field(item, 'route_config'), 'name'), field(item, 'version_info'));
      return found;
    },
    failures: async () => {
      const found: string[] = [];
      for (const [resource, mask] of [
        ['dynamic_listeners', 'name,error_state'],
        ['dynamic_active_clusters', 'error_state'],
        ['dynamic_route_configs', 'error_state'],
      ] as const) {
        for (const item of await dump(resource, mask)) {
          const details = field(field(item, 'error_state'), 'details');
          if (typeof details === 'string' && details !== '') found.push(details);
        }
      }
      return found;
    },
    listens: async (name) =>
      (await call('GET', '/listeners')).body.split('\n').some((line) => line.startsWith(`${name}::`)),
    reopenLogs: async () => {
      await call('POST', '/reopen_logs');
    },
    logState: async (file) => {
      const { body } = await call('GET', '/stats?filter=%5Efilesystem%5C.');
      const [bufferedBytes, ...failures] = ['write_total_buffered', 'write_failed', 'reopen_failed'].map(
        (name) => Number(new RegExp(`^filesystem\\.${name}: (\\d+)$`, 'm').exec(body)?.[1] ?? Number.NaN),
      );
      const failed = failures.reduce((sum, count) => sum + count, 0);
      if (bufferedBytes === undefined || Number.isNaN(bufferedBytes + failed)) return undefined;
      const { ino, size } = await stat(file, { bigint: true });
      return { bufferedBytes, file: String(ino), fileBytes: Number(size), failures: failed };
    },
  };
}

function field(value: unknown, key: string): unknown {
  return value instanceof Object ? Reflect.get(value, key) : undefined;
}
