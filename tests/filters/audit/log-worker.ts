/** Writes records and grows their log until it is killed; says each checkpoint it has published. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { noteKey, noteTypes } from '../../../filters/audit/note.ts';
import { openLogWorld, origin } from '../../support/log-world.ts';
import { someDecision } from '../../support/some-record.ts';

const [stateDir = '', keys = ''] = process.argv.slice(2);
const pair = readFileSync(keys, 'utf8')
  .split('\n\n')
  .map((pem) => {
    const privateKey = createPrivateKey(pem);
    const type =
      privateKey.asymmetricKeyType === 'ed25519' ? noteTypes.ed25519 : noteTypes.cosignatureMlDsa44;
    return { key: noteKey(origin, type, createPublicKey(privateKey)), privateKey };
  });
const world = openLogWorld(stateDir, pair, { fileBytesMax: 200_000 });
world.log.onPublished(({ size, root }) => process.stdout.write(`${size} ${root.toString('base64')}\n`));
for (let i = 0; ; i += 1) {
  world.journal.append(someDecision({ agent: `spiffe://example.org/${i % 3}` }));
  if (i % 7 === 0) await turn();
  if (i % 501 === 0) await world.log.flush();
}
