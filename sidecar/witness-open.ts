/** The witness, where the settings ask for one: what it is made of is loaded only then. */
import type { Ending } from './ending.ts';
import type { startWitness } from './witness.ts';

type Options = Parameters<typeof startWitness>[0] & Readonly<{ ending: Ending }>;

/** Its URL; undefined where there is none. */
export async function openWitness(options: Options): Promise<string | undefined> {
  if (options.settings.listen === '') return undefined;
  const witness = await (await import('./witness.ts')).startWitness(options);
  options.ending.add('witness', witness.stop);
  return witness.url;
}
