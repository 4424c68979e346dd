/** Commands about a policy file: no sidecar, no state. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cli } from '../../support/cli.ts';

const policy = `version: 1
agents:
  reader: { identity: spiffe://example.org/reader }
rules:
  - name: read
    to: { hosts: [api.example.org], methods: [GET] }
    allow: {}
  - name: gists
    to: { hosts: [api.example.org], paths: ["/gists/**"] }
    forbid: { reason: gists are public }
  - name: write
    to: { hosts: [api.example.org], methods: [POST] }
    hold: { approvers: people }
approvers:
  people: { members: [dana] }
`;

let dir: string;
const file = (name: string, text: string): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
};
let good: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sp-policy-'));
  good = file('policy.yaml', policy);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('check', () => {
  test('a valid policy ends with 0 and its version', async () => {
    const { code, out } = await cli(['check', good]);
    expect([code, out]).toEqual([
      0,
      expect.stringMatching(/is valid: version [0-9a-f]{12}, 1 agents, 3 rules/),
    ]);
    expect(JSON.parse((await cli(['check', good, '--json'])).out)).toMatchObject({ ok: true, rules: 3 });
  });

  test('a method that HTTP does not know is warned of, and no error', async () => {
    const odd = file('odd.yaml', policy.replace('methods: [GET]', 'methods: [GTE, PROPFIND]'));
    const { code, out } = await cli(['check', odd]);
    expect([code, out]).toEqual([0, expect.stringContaining('warning: rule read: GTE is no method')]);
    expect(out).not.toContain('PROPFIND');
    const json = JSON.parse((await cli(['check', odd, '--json'])).out) as { warnings: string[] };
    expect(json.warnings).toHaveLength(1);
  });

  test('every error is told at once with file, line and column', async () => {
    const bad = file(
      'bad.yaml',
      policy.replace('methods: [GET]', 'methods: [get]').replace('version: 1', 'version: 2'),
    );
    const { code, out } = await cli(['check', bad]);
    expect(code).toBe(1);
    expect(out).toContain(`${bad}:1:`);
    expect(out).toContain(`${bad}:6:`);
    expect(out).toContain('2 errors');
    const json = JSON.parse((await cli(['--json', 'check', bad])).out) as { issues: { line: number }[] };
    expect(json.issues.map(({ line }) => line)).toEqual([1, 6]);
  });

  test('a condition that does not compile, a repeated key and a wrong shape are told together', async () => {
    const bad = file(
      'together.yaml',
      policy
        .replace('version: 1', 'version: 2\nversion: 3')
        .replace('    allow: {}', '    when: request.method ==\n    allow: {}'),
    );
    const { code, out } = await cli(['check', bad]);
    expect(code).toBe(1);
    expect(out).toContain(`${bad}:2:1: version: expected each key once`);
    expect(out).toContain(`${bad}:2:10: version: expected 1, found 3`);
    expect(out).toContain(`${bad}:8:11: rules[0].when: expected a valid CEL condition`);
    expect(out).toContain('3 errors');
  });

  test('a file that is not there is wrong usage', async () => {
    expect(await cli(['check', join(dir, 'none.yaml')])).toMatchObject({
      code: 2,
      err: expect.stringContaining('none.yaml'),
    });
  });

  test('text of the file is shown without what a terminal would obey', async () => {
    const evil = file('evil.yaml', `version: 1\n"a\\e[2Jb": 1\n`);
    const { out } = await cli(['check', evil]);
    expect(out).not.toContain('\u001b');
  });
});

test('a case that fails leads to what explains it', async () => {
  const cases = file(
    'cases.yaml',
    'cases:\n  - { name: x, agent: reader, request: { method: DELETE, url: "https://api.example.org/u" }, expect: { decision: allow } }\n',
  );
  const { code, out } = await cli(['test', good, cases]);
  expect([code, out]).toEqual([
    1,
    expect.stringContaining(
      `\`sallyport explain ${good} DELETE https://api.example.org/u --agent reader\` tells why`,
    ),
  ]);
});

describe('explain', () => {
  test('names the rule that decides and why each other one does not', async () => {
    const { code, out } = await cli(['explain', good, 'GET', 'https://api.example.org/users/1']);
    expect(code).toBe(0);
    expect(out).toContain('ALLOW by rule read');
    expect(out).toMatch(/gists\s+forbid\s+\S/);
    expect(out).toMatch(/write\s+hold\s+\S/);
  });

  test.each([
    ['GET', 'https://api.example.org/gists/1', 'Deny', 'Forbidden', 'gists'],
    ['POST', 'https://api.example.org/users', 'RequiresOversight', 'HoldPending', 'write'],
    ['DELETE', 'https://api.example.org/users', 'Deny', 'EgressDenied', undefined],
    ['GET', 'https://user@api.example.org/%2e%2e', 'Deny', 'DestinationInvalid', undefined],
    ['CONNECT', 'api.example.org:443', 'Intercept', undefined, undefined],
  ])('%s %s is %s', async (method, url, decision, code, rule) => {
    const { out } = await cli(['explain', good, method, url, '--json']);
    const report = JSON.parse(out) as { decision: string; code?: string; rule?: string };
    expect([report.decision, report.code, report.rule]).toEqual([decision, code, rule]);
  });

  test('tells for which requests one decision may stand, or why for this one alone', async () => {
    const open = file(
      'lease.yaml',
      policy.replace('methods: [POST]', 'methods: [POST, PUT]').concat(`quotas:
  - { name: some, to: { paths: ["/users/**"] }, limit: 5, window: 1h }
`),
    );
    const line = async (path: string, method = 'GET'): Promise<string | undefined> =>
      /^leasable: .*$/m.exec(
        (await cli(['explain', open, method, method === 'CONNECT' ? path : `https://api.example.org${path}`]))
          .out,
      )?.[0];
    expect(await line('/users/1')).toBe('leasable: yes, GET api.example.org:443 under /users/');
    expect(await line('/users')).toBe('leasable: yes, GET api.example.org:443 only /users');
    expect(await line('/a%2Cb')).toMatch(/^leasable: no: the path has a character /);
    expect(await line('/gists/1')).toBeUndefined();
    expect(await line('/users', 'POST')).toBe('leasable: no: each request waits for a person');
    expect(await line('api.example.org:443', 'CONNECT')).toBe(
      'leasable: no: each CONNECT is checked by itself',
    );
    const json = JSON.parse(
      (await cli(['explain', open, 'GET', 'https://api.example.org/users/1', '--json'])).out,
    );
    expect(json).toMatchObject({ lease: { methods: 'this', prefix: '/users/', exact: false } });
  });

  test.each([
    [['GET', 'notaurl'], '"notaurl" is not a URL such as https://api.example.org/v1'],
    [['https://api.example.org/', 'GET'], '"HTTPS://API.EXAMPLE.ORG/" is not an HTTP method'],
    [['CONNECT', 'api.example.org'], '"api.example.org" is not host:port, which a CONNECT names'],
  ])('%j is no request, and so wrong usage', async (words, told) => {
    const { code, out, err } = await cli(['explain', good, ...words]);
    expect([code, out, err.split('\n')[0]]).toEqual([2, '', `sallyport: ${told}`]);
  });

  test('an agent that the policy does not know is an error', async () => {
    expect(
      await cli(['explain', good, 'GET', 'https://api.example.org/', '--agent', 'nobody']),
    ).toMatchObject({ code: 1 });
  });

  test('a header that is none is wrong usage', async () => {
    const args = ['explain', good, 'GET', 'https://api.example.org/', '--header', 'no colon here'];
    expect(await cli(args)).toMatchObject({ code: 2 });
  });
});
