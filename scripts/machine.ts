/** What the tests need beside the packages: the Envoy binary. Says what it does; what cannot be had is an error. */
import { envoyBinary } from '../tests/support/envoy.ts';

export async function prepareMachine(say: (line: string) => void): Promise<void> {
  const started = Date.now();
  say('gate: looking for Envoy 1.40; it is installed once per machine');
  const path = await envoyBinary();
  say(`gate: Envoy at ${path} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}
