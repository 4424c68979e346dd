/** A sidecar in a process of its own, so that a test can kill it. Tells the proxy's port on its first line. */
import { allow, type Decide, startWorld } from './world.ts';

const [dir = '', upstreamPort = '0', settings = '{}'] = process.argv.slice(2);
const pinned = Number(upstreamPort);

const decide: Decide = (call) => {
  if (call.stage === 'tunnel') return allow(pinned, 'sni');
  if (call.method !== 'CONNECT') return allow(pinned);
  return call.authority.startsWith('mail.') ? allow(pinned, 'tunnel') : allow(pinned, 'sni');
};

const world = await startWorld({ decide, dir, settings: JSON.parse(settings) });
const { pid } = await world.plane.health();
process.stdout.write(`${JSON.stringify({ port: world.port, envoy: pid })}\n`);
process.once('SIGTERM', () => {
  void world.plane.stop().then(() => process.exit(0));
});
