import { expect, test } from 'vitest';
import { createEnding } from '../../sidecar/ending.ts';
import { createLog } from '../../sidecar/log.ts';

function withLog(timeoutMs?: number) {
  const lines: string[] = [];
  const log = createLog({ level: 'info', format: 'json' }, { write: (line) => lines.push(line) });
  return { ending: createEnding(log, timeoutMs), text: () => lines.join('') };
}

test('parts end in the reverse of the order they were opened in, once', async () => {
  const { ending } = withLog();
  const ended: string[] = [];
  for (const name of ['first', 'second', 'third'])
    ending.add(name, async () => {
      ended.push(name);
    });
  await Promise.all([ending.run(), ending.run()]);
  await ending.run();
  expect(ended).toEqual(['third', 'second', 'first']);
});

test('a part that fails or hangs is named, and the others still end', async () => {
  const { ending, text } = withLog(20);
  let ended = false;
  ending.add('first', () => {
    ended = true;
  });
  ending.add('failing', () => Promise.reject(new Error('no')));
  ending.add('hanging', () => new Promise<void>(() => undefined));
  await ending.run();
  expect(ended).toBe(true);
  expect(text()).toContain('hanging did not end within 20 ms');
  expect(text()).toContain('failing did not end cleanly');
});
