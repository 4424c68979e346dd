/**
 * A process that a test kills at any moment. It consumes every approved hold it finds, then opens, approves
 * and consumes new ones for ever, and prints each result after the store returned it, one line each, unbuffered.
 */
import { writeSync } from 'node:fs';
import { openDatabase } from '../../../filters/common/database.ts';
import { createClock } from '../../../filters/common/time.ts';
import { someHoldStore } from '../../support/hold-store.ts';
import { someHold } from '../../support/some-hold.ts';

const [file = '', name = '', mode = ''] = process.argv.slice(2);
const say = (line: string): void => {
  writeSync(1, `${line}\n`);
};
const clock = createClock();
const db = openDatabase(file);
const store = someHoldStore(db, clock);

const consume = (id: Parameters<typeof store.consume>[0]): void =>
  say(`${store.consume(id) ? 'consumed' : 'refused'} ${id}`);

say('ready');
for (const hold of store.list({ limit: 1_000, states: ['Approved', 'Released'] })) consume(hold.id);
for (let i = 0; mode === 'forever'; i += 1) {
  const digest = `${name}${i}`.padStart(64, '0');
  const hold = store.open(someHold({ digest: digest as typeof hold.digest, timeoutMs: 3_600_000 }));
  say(`opened ${hold.id}`);
  if (i % 5 === 4) {
    store.deny(hold.id, 'dana', '');
    say(`denied ${hold.id}`);
    continue;
  }
  store.approve(hold.id, 'dana', '');
  say(`approved ${hold.id}`);
  if (i % 3 !== 0) consume(hold.id);
}
db.close();
