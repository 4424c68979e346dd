import { describe, expect, test } from 'vitest';
import type { AgentName, RuleName } from '../../../filters/common/brand.ts';
import { compile, factsOf, tunnelTo } from './compiled-policy.ts';

const named = (name: string): RuleName => name as RuleName;

test('agents are known by name, user, SPIFFE ID and credential', () => {
  const policy = compile({});
  const researcher = {
    name: 'researcher',
    id: 'spiffe://example.org/researcher',
    labels: { team: 'search' },
  };
  expect(policy.agent('researcher')).toEqual(researcher);
  expect(policy.agentByUser(1001)).toEqual(researcher);
  expect(policy.agentByUser(1005)).toEqual(researcher);
  expect(policy.agentByUser(1006)).toBeUndefined();
  expect(policy.agentBySpiffeId('spiffe://example.org/deployer')?.name).toBe('deployer');
  expect(policy.agent('constructor')).toBeUndefined();
  expect(policy.usesUnixUsers).toBe(true);
  const matches = (name: string, hash: string): boolean => policy.credentialMatches(name as AgentName, hash);
  expect(matches('researcher', 'a'.repeat(64))).toBe(true);
  expect(matches('researcher', 'b'.repeat(64))).toBe(false);
  expect(matches('researcher', '')).toBe(false);
  expect(matches('researcher', 'a'.repeat(63))).toBe(false);
  expect(matches('deployer', 'a'.repeat(64))).toBe(false);
  expect(matches('nobody', 'a'.repeat(64))).toBe(false);
  expect(policy.credentialsOf('researcher' as AgentName)).toEqual(['a'.repeat(64)]);
  expect(policy.credentialsOf('nobody' as AgentName)).toEqual([]);
  expect(compile({ agents: {} }).usesUnixUsers).toBe(false);
});

test('routes are parsed', () => {
  const policy = compile({
    routes: {
      '/openai': { upstream: 'https://API.openai.com/v1/' },
      '/local': { upstream: 'http://[2001:db8::1]:8080' },
    },
  });
  expect(Object.fromEntries(policy.routes)).toEqual({
    '/openai': { scheme: 'https', host: 'api.openai.com', port: 443, basePath: '/v1' },
    '/local': { scheme: 'http', host: '2001:db8::1', port: 8080, basePath: '' },
  });
});

describe('what the data plane has to read', () => {
  const policy = compile({
    rules: [
      { name: 'plain', to: { hosts: ['plain.example'] }, when: 'request.headers.x == "y"', allow: {} },
      {
        name: 'model',
        to: { hosts: ['github'], paths: ['/v1/**'] },
        when: 'request.model.name == "m"',
        allow: {},
      },
      { name: 'hold', to: { hosts: ['hold.example'], methods: ['POST'] }, hold: { approvers: 'one' } },
      { name: 'mcp', to: { hosts: ['*.mcp.example'], paths: ['/mcp'], mcp: {} }, allow: {} },
      { name: 'mcp2', to: { hosts: ['a.mcp.example'], mcp: { tools: ['x'] } }, forbid: {} },
      { name: 'shadow', to: { hosts: ['shadow.example'] }, hold: { approvers: 'one' }, mode: 'shadow' },
    ],
  });
  test('is listed by host pattern', () => {
    expect(policy.needs).toEqual([
      { host: 'api.github.com', body: true, mcpPaths: [] },
      { host: '*.githubusercontent.com', body: true, mcpPaths: [] },
      { host: 'hold.example', body: true, bodyMethods: ['POST'], mcpPaths: [] },
      { host: '*.mcp.example', body: false, mcpPaths: ['/mcp'] },
      { host: 'a.mcp.example', body: false, mcpPaths: ['/**'] },
    ]);
  });
  test('is asked by host and path', () => {
    expect(policy.needsOf('api.github.com', '/v1/x', 'POST')).toEqual({ body: true, mcp: false });
    expect(policy.needsOf('api.github.com', '/v2', 'POST')).toEqual({ body: false, mcp: false });
    expect(policy.needsOf('x.githubusercontent.com', '/v1', 'POST')).toEqual({ body: true, mcp: false });
    expect(policy.needsOf('hold.example', '/', 'POST')).toEqual({ body: true, mcp: false });
    expect(policy.needsOf('b.mcp.example', '/mcp', 'POST')).toEqual({ body: false, mcp: true });
    expect(policy.needsOf('b.mcp.example', '/', 'POST')).toEqual({ body: false, mcp: false });
    expect(policy.needsOf('a.mcp.example', '/', 'POST')).toEqual({ body: false, mcp: true });
    expect(policy.needsOf('shadow.example', '/', 'POST')).toEqual({ body: false, mcp: false });
    expect(policy.needsOf('192.0.2.1', '/', 'POST')).toEqual({ body: false, mcp: false });
  });
});

describe('quotas', () => {
  const window = '1m';
  const policy = compile({
    rules: [
      { name: 'read', to: { hosts: ['**'] }, allow: {} },
      { name: 'db', to: { hosts: ['db.example'], ports: [5432], inspect: 'tunnel' }, allow: {} },
    ],
    quotas: [
      { name: 'each', limit: 5, window },
      { name: 'all', key: [], limit: 9, window, kind: 'rate' },
      {
        name: 'github',
        to: { hosts: ['github'], methods: ['POST'] },
        key: ['rule', 'host', 'agent'],
        limit: 1,
        window,
      },
      { name: 'deploy', agents: ['deployer'], limit: 1, window },
      { name: 'db-only', rules: ['db'], limit: 1, window },
      { name: 'db-host', to: { hosts: ['db.example'] }, limit: 1, window },
      { name: 'calls', to: { mcp: { tools: ['x'] } }, limit: 1, window },
    ],
  });
  const names = (...args: Parameters<CompiledDebits>): string[] =>
    policy.debits(...args).map((debit) => debit.quota);
  type CompiledDebits = typeof policy.debits;

  test('apply by agent, rule and destination, in the order of the file', () => {
    expect(names(factsOf(policy), named('read'))).toEqual(['each', 'all']);
    expect(names(factsOf(policy, { method: 'POST', port: 8443 }), named('read'))).toEqual([
      'each',
      'all',
      'github',
    ]);
    expect(names(factsOf(policy, {}, { agent: 'deployer' }), named('read'))).toEqual([
      'each',
      'all',
      'deploy',
    ]);
    expect(names({ ...factsOf(policy), destination: tunnelTo('db.example', 5432) }, named('db'))).toEqual([
      'each',
      'all',
      'db-only',
      'db-host',
    ]);
    expect(names(factsOf(policy, { mcp: { kind: 'invalid', reason: '' } }), named('read'))).toEqual([
      'each',
      'all',
      'calls',
    ]);
  });
  test('keys hold the values of their fields in one order, and apart', () => {
    const debits = policy.debits(factsOf(policy, { method: 'POST' }), named('read'));
    expect(debits).toEqual([
      { quota: 'each', key: '["each","researcher",null,null]', limit: 5, windowMs: 60_000, kind: 'quota' },
      { quota: 'all', key: '["all",null,null,null]', limit: 9, windowMs: 60_000, kind: 'rate' },
      {
        quota: 'github',
        key: '["github","researcher","api.github.com","read"]',
        limit: 1,
        windowMs: 60_000,
        kind: 'quota',
      },
    ]);
  });
});

test('explain tells the first thing that does not fit, for every rule in the order of the file', () => {
  const host = { hosts: ['x.example'] };
  const policy = compile({
    rules: [
      { name: 'z-agent', agents: ['deployer'], to: host, allow: {} },
      { name: 'host', to: { hosts: ['a.example', '*.b.example'] }, allow: {} },
      { name: 'scheme', to: { ...host, schemes: ['http'] }, allow: {} },
      { name: 'port', to: { ...host, ports: [8443] }, allow: {} },
      { name: 'method', to: { ...host, methods: ['GET', 'HEAD'] }, allow: {} },
      { name: 'path', to: { ...host, paths: ['/a/**'] }, allow: {} },
      { name: 'mcp', to: { ...host, mcp: {} }, allow: {} },
      { name: 'unread', to: { ...host, inspect: 'sni' }, allow: {} },
      { name: 'false', to: host, when: 'request.method == "GET"', allow: {} },
      { name: 'error', to: host, when: 'request.json.x == 1', allow: {} },
      { name: 'held', to: host, when: 'request.json.x == 1', hold: { approvers: 'one' } },
      { name: 'allowed', to: host, allow: {} },
      { name: 'held-too', to: host, hold: { approvers: 'one' } },
      { name: 'shadow', to: host, forbid: {}, mode: 'shadow' },
    ],
  });
  const explained = policy.explain(factsOf(policy, { host: 'x.example', method: 'POST', path: '/p' }));
  expect(explained.map((one) => `${one.rule}: ${one.decided ? 'decided' : one.why}`)).toEqual([
    'z-agent: agent researcher is not deployer',
    'host: host x.example is not a.example or *.b.example',
    'scheme: scheme https is not http',
    'port: port 443 of https is not 8443',
    'method: method POST is not GET or HEAD',
    'path: path /p is not /a/**',
    'mcp: the request is no MCP message',
    'unread: `inspect: sni` is for connections passed unread, and this request is read',
    'false: the condition is false',
    'error: the condition failed (the body was not read); a rule that allows then does not match',
    'held: decided',
    'allowed: matched, but rule held is stronger: hold before allow',
    'held-too: matched, and rule held of the same outcome is named for it',
    'shadow: matched in shadow mode: enforced, it would forbid',
  ]);
  expect(explained.filter((one) => one.matched).map((one) => one.rule)).toEqual([
    'held',
    'allowed',
    'held-too',
    'shadow',
  ]);
});

describe('ten thousand rules', () => {
  const many = (count: number): object[] => [
    ...Array.from({ length: count - 1_000 }, (_, i) => ({
      name: `host-${i}`,
      to: { hosts: [`h${i}.example.org`], methods: ['GET'] },
      allow: {},
    })),
    ...Array.from({ length: 1_000 }, (_, i) => ({
      name: `path-${i}`,
      to: {
        hosts: [i % 10 === 0 ? '*.one.example' : 'api.one.example'],
        paths: [i % 7 === 0 ? `/v1/*/p${i}` : `/v1/a/p${i}/**`],
      },
      allow: {},
    })),
  ];
  test('compile, and each is found', () => {
    const policy = compile({ rules: many(10_000) });
    const at = (host: string, path: string): unknown => policy.evaluate(factsOf(policy, { host, path }));
    expect(at('h8999.example.org', '/')).toMatchObject({ kind: 'allow', rule: 'host-8999' });
    expect(at('api.one.example', '/v1/a/p999/x')).toMatchObject({ kind: 'allow', rule: 'path-999' });
    expect(at('api.one.example', '/v1/zz/p990')).toMatchObject({ kind: 'none' });
    expect(at('b.one.example', '/v1/zz/p980')).toMatchObject({ kind: 'allow', rule: 'path-980' });
    expect(at('h9000.example.org', '/')).toMatchObject({ kind: 'none' });
  });
  test('a rule of many hosts, paths, agents and methods does not flood the index, and is found', () => {
    const hosts = Array.from({ length: 500 }, (_, i) => `h${i}.example`);
    const policy = compile({
      hosts: { all: hosts },
      rules: Array.from({ length: 200 }, (_, i) => ({
        name: `r${i}`,
        agents: ['researcher', 'deployer'],
        to: {
          hosts: ['all'],
          methods: ['GET', 'PUT', 'POST'],
          paths: Array.from({ length: 100 }, (_unused, p) => `/r${i}/p${p}/*`),
        },
        allow: {},
      })),
    });
    expect(
      policy.evaluate(factsOf(policy, { host: 'h77.example', path: '/r120/p99/x', method: 'PUT' })),
    ).toMatchObject({ rule: 'r120' });
  });
});
