/** A process with a small file size limit (`ulimit -f`): appends until refused and says what it has written. */
import { openJournal } from '../../../filters/common/journal-file.ts';
import { createClock } from '../../../filters/common/time.ts';
import { refusalOf } from '../../support/refusal.ts';
import { someDecision } from '../../support/some-record.ts';

const journal = openJournal(process.argv[2] ?? '', { clock: createClock() });
let written = 0;
const append = () =>
  refusalOf(() => journal.append(someDecision({ id: `dec_${written}`, why: 'x'.repeat(900) })));
let refusal = append();
for (; refusal === 'none' && written < 1_000; refusal = append()) written += 1;
const again = append();
process.stdout.write(
  `${JSON.stringify({ written, refusal, again, readable: journal.tail(1_000).length, health: journal.health() })}\n`,
);
