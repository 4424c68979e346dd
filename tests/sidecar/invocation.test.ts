import { expect, test } from 'vitest';
import { asTyped, invocation, invocationOf, leadHintsTo } from '../../sidecar/invocation.ts';

test.each([
  [
    'the checkout’s own script',
    { npm_package_name: 'sallyport', npm_lifecycle_event: 'start' },
    'npm start --',
  ],
  ['another package’s script', { npm_package_name: 'mine', npm_lifecycle_event: 'start' }, 'sallyport'],
  ['another script of ours', { npm_package_name: 'sallyport', npm_lifecycle_event: 'test' }, 'sallyport'],
  ['npx', { npm_package_name: 'mine', npm_lifecycle_event: 'npx' }, 'npx sallyport'],
  ['a shell', {}, 'sallyport'],
])('hints are typed as the command line was started: %s', (_name, env, words) => {
  expect(invocationOf(env)).toBe(words);
});

test('a hint leads to the sidecar that the command was about, where what it names takes directories', () => {
  leadHintsTo(' --state-dir /srv/s');
  expect(asTyped('end it with `sallyport stop`; `sallyport check p.yaml` lists them')).toBe(
    `end it with \`${invocation} stop --state-dir /srv/s\`; \`${invocation} check p.yaml\` lists them`,
  );
  leadHintsTo('');
  expect(asTyped('`sallyport stop`')).toBe(`\`${invocation} stop\``);
});
