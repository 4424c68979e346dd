import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { formatIssue, type Issue } from '../../../config/policy/issue.ts';
import type { ParsedPolicy } from '../../../config/policy/parse.ts';
import { type PolicyWatch, type WatchOptions, watchPolicy } from '../../../config/policy/watch.ts';

type Value = Readonly<{ agents: string[] }>;

let folder = '';
let file = '';
let changes: string[] = [];
let rejections: string[] = [];
let watches: PolicyWatch<Value>[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-watch-'));
  file = join(folder, 'policy.yaml');
  changes = [];
  rejections = [];
  watches = [];
});
afterEach(() => {
  for (const watch of watches) watch.close();
  rmSync(folder, { recursive: true, force: true });
});

const policy = (name: string): string =>
  `version: 1\nagents: { ${name}: { identity: "spiffe://x.test/${name}" } }\n`;
const build = (parsed: ParsedPolicy) =>
  ({ ok: true, value: { agents: Object.keys(parsed.policy.agents) } }) as const;

async function start(more: Partial<WatchOptions<Value>> = {}): Promise<PolicyWatch<Value>> {
  const watch = await watchPolicy<Value>({
    file,
    build,
    onChange: (value) => changes.push(...value.agents),
    onReject: (issues: readonly Issue[]) => rejections.push(issues.map(formatIssue).join('\n')),
    ...more,
  });
  watches.push(watch);
  return watch;
}
const until = (condition: () => unknown): Promise<unknown> =>
  vi.waitFor(() => expect(condition()).toBeTruthy(), { timeout: 15_000, interval: 20 });

test('a first policy that is wrong is told whole', async () => {
  writeFileSync(file, 'version: 2\nrulez: []\n');
  await expect(start()).rejects.toMatchObject({
    code: 'PolicyInvalid',
    message: expect.stringMatching(/policy\.yaml:1:10: version: [^\n]+\n[^\n]+rulez/),
  });
});

test('a file written in place becomes the policy without being asked', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start();
  writeFileSync(file, policy('two'));
  await until(() => watch.current().agents[0] === 'two');
  expect(changes).toEqual(['two']);
});

test('a file replaced by rename is followed, again and again', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start();
  for (const name of ['two', 'three']) {
    writeFileSync(`${file}.new`, policy(name));
    renameSync(`${file}.new`, file);
    await until(() => watch.current().agents[0] === name);
  }
  expect(changes).toEqual(['two', 'three']);
});

test('a ConfigMap’s swapped link is followed', async () => {
  const version = (name: string): void => {
    mkdirSync(join(folder, `..${name}`));
    writeFileSync(join(folder, `..${name}`, 'policy.yaml'), policy(name));
    symlinkSync(`..${name}`, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  };
  version('one');
  symlinkSync(join('..data', 'policy.yaml'), file);
  const watch = await start();
  version('two');
  await until(() => watch.current().agents[0] === 'two');
});

test('a link to a file in another directory is followed', async () => {
  mkdirSync(join(folder, 'real'));
  writeFileSync(join(folder, 'real', 'p.yaml'), policy('one'));
  symlinkSync(join('real', 'p.yaml'), file);
  const watch = await start();
  writeFileSync(join(folder, 'real', 'p.yaml'), policy('two'));
  await until(() => watch.current().agents[0] === 'two');
});

test('the old policy stays while the new one is wrong, told once, and goes when it is right', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start();
  writeFileSync(file, 'version: 1\nrulez: []\n');
  await until(() => rejections.length === 1);
  expect(watch.current().agents).toEqual(['one']);
  writeFileSync(join(folder, 'beside'), 'x');
  expect(await watch.reload()).toMatchObject({ ok: false });
  expect(rejections).toHaveLength(2);
  writeFileSync(file, policy('two'));
  await until(() => watch.current().agents[0] === 'two');
  expect(rejections).toHaveLength(2);
});

test('a file that goes away leaves the old policy, and is taken when it is back', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start();
  rmSync(file);
  await until(() => rejections.length === 1);
  expect(rejections[0]).toContain('there is no such file');
  expect(watch.current().agents).toEqual(['one']);
  writeFileSync(file, policy('two'));
  await until(() => watch.current().agents[0] === 'two');
});

test('a reload of the same text changes nothing', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start();
  expect(await watch.reload()).toEqual({ ok: true, value: { agents: ['one'] } });
  expect(changes).toEqual([]);
});

test('what cannot be put into effect leaves the old policy, and why is told', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start({
    apply: async (value) => {
      if (value.agents[0] === 'two') throw new Error('no room');
    },
  });
  writeFileSync(file, policy('two'));
  expect(await watch.reload()).toMatchObject({ ok: false });
  expect(rejections[0]).toContain('no room');
  expect(watch.current().agents).toEqual(['one']);
});

test('reloads go one after the other: the last text holds, however slow the one before', async () => {
  writeFileSync(file, policy('one'));
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const watch = await start({
    apply: async ({ agents: [name = ''] }) => {
      order.push(`begin ${name}`);
      if (name === 'two') await gate.promise;
      order.push(`end ${name}`);
    },
  });
  writeFileSync(file, policy('two'));
  const slow = watch.reload();
  await until(() => order.includes('begin two'));
  writeFileSync(file, policy('three'));
  const fast = watch.reload();
  gate.resolve();
  await Promise.all([slow, fast]);
  expect(order.slice(2)).toEqual(['begin two', 'end two', 'begin three', 'end three']);
  expect(watch.current().agents).toEqual(['three']);
});

test('after close nothing changes any more, not even by a reload under way', async () => {
  writeFileSync(file, policy('one'));
  const gate = Promise.withResolvers<void>();
  const watch = await start({
    apply: async ({ agents }) => (agents[0] === 'two' ? gate.promise : undefined),
  });
  writeFileSync(file, policy('two'));
  const reload = watch.reload();
  watch.close();
  gate.resolve();
  await reload;
  expect(changes).toEqual([]);
  expect(watch.current().agents).toEqual(['one']);
});

test('a change between the first reading and the watch is not missed', async () => {
  writeFileSync(file, policy('one'));
  const watch = await start({
    apply: async ({ agents }) => {
      if (agents[0] === 'one') writeFileSync(file, policy('two'));
    },
  });
  await until(() => watch.current().agents[0] === 'two');
});
