/** The filters of Envoy's HTTP connection managers, where a route does not say what it should. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { envoyPaths } from '../../envoy/paths.ts';
import { startEnvoyPlane } from '../../envoy/plane.ts';
import { sendRaw } from '../data-plane/ask.ts';
import { type Harness, startHarness } from '../data-plane/harness.ts';
import { sharedPolicy } from '../data-plane/policies.ts';
import { envoyBinary } from '../support/envoy.ts';
import { until } from './clients.ts';

let harness: Harness | undefined;
afterEach(async () => {
  await harness?.close();
  harness = undefined;
});

/** Routes as they would be if the service that is asked had been forgotten. */
function forgetService(h: Harness): void {
  const paths = envoyPaths(join(h.dir, 'r'), join(h.dir, 's'), '');
  for (const table of ['explicit', 'plain', 'mitm']) {
    const file = join(paths.routes, `${table}.json`);
    const text = readFileSync(file, 'utf8');
    const altered = text
      .replace(/"version_info":"[^"]*"/, '"version_info":"altered"')
      .replace(/"grpc_service":\{"envoy_grpc":\{[^}]*\},"timeout":"[^"]*"\}/g, '"with_request_body":null');
    expect(altered).not.toContain('grpc_service');
    const draft = join(paths.staging, `${table}.json`);
    writeFileSync(draft, altered, { mode: 0o644 });
    renameSync(draft, file);
  }
}

test('a route that names no service to be asked lets nothing pass', async () => {
  harness = await startHarness(
    async (deps) =>
      startEnvoyPlane({
        ...deps,
        settings: { ...deps.settings, envoy: { ...deps.settings.envoy, binary: await envoyBinary() } },
      }),
    { policy: sharedPolicy },
  );
  const h = harness;
  const host = `api.test:${h.ports.http}`;
  const ask = async (head: string): Promise<number> =>
    (await sendRaw(h, `${head} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)).status;
  expect(await ask(`GET http://${host}/hello`)).toBe(200);
  const decided = h.decisions.length;
  forgetService(h);
  await until(async () => (await ask(`GET http://${host}/hello`)) === 503, 'the altered routes');
  const arrived = h.upstream.requests().length;
  for (const head of [
    `GET http://${host}/hello`,
    `POST http://${host}/envoy.service.auth.v3.Authorization/Check`,
    `GET http://${host}/grpc.health.v1.Health/Check`,
    `CONNECT api.test:${h.ports.http}`,
  ])
    expect([head, await ask(head)]).toEqual([head, 503]);
  expect([h.upstream.requests().length, h.decisions.length >= decided]).toEqual([arrived, true]);
});
