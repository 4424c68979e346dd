import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { formatIssue, type Issue } from '../../../config/policy/issue.ts';
import { parsePolicy, policyVersion } from '../../../config/policy/parse.ts';
import { type PolicyWatch, type WatchOptions, watchPolicy } from '../../../config/policy/watch.ts';
import { readText } from '../../../config/source.ts';

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
const load: WatchOptions<Value>['load'] = async (path, known) => {
  const text = readText(path, limits.policyBytesMax);
  const key = text.ok ? policyVersion(text.value) : text.issues.map(formatIssue).join('\n');
  if (known.includes(key)) return { kind: 'known', key };
  const parsed = text.ok ? parsePolicy(text.value, path) : text;
  return parsed.ok
    ? { kind: 'value', key, value: { agents: Object.keys(parsed.value.policy.agents) } }
    : { kind: 'refused', key, issues: parsed.issues };
};

async function start(more: Partial<WatchOptions<Value>> = {}): Promise<PolicyWatch<Value>> {
  const watch = await watchPolicy<Value>({
    file,
    load,
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

test('all who ask while a reading is under way wait for one more', async () => {
  writeFileSync(file, policy('one'));
  const gate = Promise.withResolvers<void>();
  let readings = 0;
  const watch = await start({
    load: async (...args) => {
      readings += 1;
      if (readings === 2) await gate.promise;
      return load(...args);
    },
  });
  const first = watch.reload();
  await until(() => readings === 2);
  writeFileSync(file, 'version: 1\nrulez: []\n');
  const more = [watch.reload(), watch.reload(), watch.reload()];
  writeFileSync(file, policy('two'));
  gate.resolve();
  expect(await first).toEqual({ ok: true, value: { agents: ['two'] } });
  for (const reload of more) expect(await reload).toEqual({ ok: true, value: { agents: ['two'] } });
  // One for the three, and at most one that the watch itself asked for.
  expect(readings).toBeLessThanOrEqual(4);
  expect(changes).toEqual(['two']);
});

test('a wrong text that was told already is told again only where it is asked for', async () => {
  writeFileSync(file, policy('one'));
  const knowns: (readonly string[])[] = [];
  const watch = await start({
    load: async (path, known, signal) => {
      knowns.push(known);
      return load(path, known, signal);
    },
  });
  const held = policyVersion(policy('one'));
  const wrong = 'version: 2\n';
  writeFileSync(file, wrong);
  await until(() => rejections.length === 1);
  expect(await watch.reload()).toMatchObject({ ok: false });
  expect(knowns.at(-1)).toEqual([held]);
  const before = knowns.length;
  utimesSync(file, 1, 1);
  await until(() => knowns.length > before);
  expect(knowns.at(-1)).toEqual([held, policyVersion(wrong)]);
  await watch.reload();
  expect(rejections).toHaveLength(3);
});

test('close ends a reading that is under way, and whoever waits gets what holds', async () => {
  writeFileSync(file, policy('one'));
  let readings = 0;
  const watch = await start({
    load: (path, known, signal) => {
      readings += 1;
      return readings === 1
        ? load(path, known, signal)
        : new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });
  const waiting = [watch.reload()];
  await until(() => readings === 2);
  waiting.push(watch.reload());
  watch.close();
  for (const reload of waiting) expect(await reload).toEqual({ ok: true, value: { agents: ['one'] } });
  expect(readings).toBe(2);
  expect(rejections).toEqual([]);
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
