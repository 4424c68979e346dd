import fc from 'fast-check';
import fastify, { type FastifyInstance } from 'fastify';
import { afterEach, describe, expect, it } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { readRequest } from '../../config/request-issues.ts';
import { authzenRoutes } from '../../ext-authz/authzen.ts';
import { callOf, evaluationSchema } from '../../ext-authz/authzen-schema.ts';
import type { Decision } from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { checkerThat, someAllow, someDeny, someHold } from './support.ts';

let app: FastifyInstance | undefined;
afterEach(() => app?.close());

function serve(decide: (call: Call) => Decision = () => someAllow()) {
  const checker = checkerThat(decide);
  const instance = fastify();
  app = instance;
  authzenRoutes(instance, { checker, baseUrl: 'http://127.0.0.1:9/' });
  const post = async (path: string, payload: unknown, headers: Record<string, string> = {}) => {
    const reply = await instance.inject({
      method: 'POST',
      url: path,
      headers: { 'content-type': 'application/json', ...headers },
      payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
    });
    return { status: reply.statusCode, headers: reply.headers, body: reply.json() };
  };
  return {
    checker,
    instance,
    one: (payload: unknown, headers?: Record<string, string>) =>
      post('/access/v1/evaluation', payload, headers),
    many: (payload: unknown) => post('/access/v1/evaluations', payload),
  };
}

const subject = { type: 'agent', id: 'demo' };
const action = { name: 'GET' };
const resource = { type: 'url', id: 'HTTPS://api.example.com:8443/v1?a=1' };
const ask = { subject, action, resource };
const at = (path: string) => ({ resource: { type: 'url', id: `https://api.example.com${path}` } });

describe('/access/v1/evaluation', () => {
  it('asks the checker about the agent, method and URL as they are', async () => {
    const { checker, one } = serve();
    const reply = await one(
      {
        ...ask,
        context: { headers: { 'X-Team': 'a' }, mcp: { method: 'tools/call', tool: 'fetch' }, time: 'now' },
        extra: 1,
      },
      { 'x-request-id': 'r-1' },
    );
    expect(reply).toMatchObject({
      status: 200,
      headers: { 'x-request-id': 'r-1' },
      body: {
        decision: true,
        context: { id: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV', kind: 'Allow', rule: 'demo-read' },
      },
    });
    expect(checker.calls[0]).toMatchObject({
      stage: 'request',
      method: 'GET',
      scheme: 'https',
      authority: 'api.example.com:8443',
      path: '/v1?a=1',
      mcp: { kind: 'call', method: 'tools/call', tool: 'fetch' },
      requestId: 'r-1',
      via: 'authzen',
      connection: { tunnelAgent: 'demo', peerSpiffeId: '' },
    });
    expect(checker.calls[0]?.headers['x-team']).toBe('a');
  });

  it('takes a SPIFFE ID as a verified one', async () => {
    const { checker, one } = serve();
    await one({ ...ask, subject: { type: 'agent', id: 'spiffe://a.test/x' } });
    expect(checker.calls[0]?.connection).toMatchObject({
      tunnelAgent: '',
      peerSpiffeId: 'spiffe://a.test/x',
    });
  });

  it('answers a refusal with 200, false and the reasons', async () => {
    const { one } = serve(() => someHold());
    expect(await one(ask)).toMatchObject({
      status: 200,
      body: {
        decision: false,
        context: {
          kind: 'RequiresOversight',
          code: 'HoldPending',
          hold: 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV',
          retry_after: 5,
          reason_admin: { en: expect.stringContaining('pay-held') },
          reason_user: { en: expect.stringContaining('person') },
        },
      },
    });
  });

  it.each<[string, unknown, string]>([
    ['no JSON', '{"subject"', 'the body is not JSON of type application/json'],
    ['a list', [], 'the request: expected a mapping, found a list of 0'],
    ['no subject', { action, resource }, 'subject: missing; expected a mapping'],
    [
      'another type of subject',
      { ...ask, subject: { type: 'user', id: 'x' } },
      'subject.type: expected "agent", found "user"',
    ],
    [
      'a subject without name',
      { ...ask, subject: { type: 'agent', id: '' } },
      'subject.id: expected at least 1 character, found ""',
    ],
    [
      'a method in lower case',
      { ...ask, action: { name: 'get' } },
      'action.name: expected an HTTP method in upper case, found "get"',
    ],
    [
      'CONNECT',
      { ...ask, action: { name: 'CONNECT' } },
      'action.name: expected the method of a request inside the tunnel, found "CONNECT"',
    ],
    [
      'two wrong fields',
      { ...ask, action: { name: 1 }, resource: { type: 'file', id: 'x' } },
      'action.name: expected text, found 1; resource.type: expected "url", found "file"',
    ],
    [
      'a URL that is none',
      { ...ask, resource: { type: 'url', id: 'ftp://x/' } },
      'resource.id: expected an http or https URL without fragment',
    ],
    ['a fragment', { ...ask, ...at('/#x') }, 'resource.id: expected an http or https URL without fragment'],
    [
      'a host that is none',
      { ...ask, resource: { type: 'url', id: 'https:///x' } },
      'the authority is empty, repeated or holds characters that no host has',
    ],
    [
      'a header that is no text, without repeating what may be a secret',
      { ...ask, context: { headers: { a: ['s3cr3t'] } } },
      'context.headers.a: expected text, found a list of 1',
    ],
    [
      'a header with a line break',
      { ...ask, context: { headers: { a: 'b\r\nc: d' } } },
      'header "a" has a control character',
    ],
  ])('refuses %s with 400 and names it', async (_name, payload, named) => {
    const { checker, one } = serve();
    const reply = await one(payload, { 'x-request-id': 'r-2' });
    expect(reply).toMatchObject({
      status: 400,
      headers: { 'x-request-id': 'r-2', 'content-type': expect.stringContaining('application/problem+json') },
      body: { code: 'RequestMalformed', detail: named },
    });
    expect(checker.calls).toEqual([]);
  });

  it('refuses a body past the limit, and one that is not JSON', async () => {
    const { one } = serve();
    expect((await one('x'.repeat(limits.adminBodyBytesMax + 1))).status).toBe(413);
    expect((await one('x', { 'content-type': 'text/plain' })).status).toBe(400);
  });
});

describe('/access/v1/evaluations', () => {
  const denyB = (call: Call): Decision => (call.path === '/b' ? someDeny() : someAllow());
  const items = [at('/a'), at('/b'), at('/c')];

  it.each([
    ['execute_all', [true, false, true]],
    ['deny_on_first_deny', [true, false]],
    ['permit_on_first_permit', [true]],
  ])('%s answers %j', async (evaluations_semantic, expected) => {
    const { many } = serve(denyB);
    const { body } = await many({ subject, action, evaluations: items, options: { evaluations_semantic } });
    expect(body.evaluations.map((item: { decision: boolean }) => item.decision)).toEqual(expected);
  });

  it('executes all where nothing else is said, each with its own before the defaults', async () => {
    const { checker, many } = serve();
    await many({ ...ask, evaluations: [{}, { action: { name: 'POST' }, ...at('/a') }] });
    expect(checker.calls.map(({ method, path }) => [method, path])).toEqual([
      ['GET', '/v1?a=1'],
      ['POST', '/a'],
    ]);
  });

  it('answers like a single one without items', async () => {
    const { many } = serve();
    expect((await many(ask)).body).toMatchObject({ decision: true });
    expect((await many({ ...ask, evaluations: [] })).body).toMatchObject({ decision: true });
  });

  it('answers a wrong item in its place', async () => {
    const { many } = serve();
    const { status, body } = await many({ ...ask, evaluations: [{ action: {} }, {}] });
    expect(status).toBe(200);
    expect(body.evaluations).toMatchObject([
      {
        decision: false,
        context: { error: { status: 400, message: 'action.name: missing; expected text' } },
      },
      { decision: true },
    ]);
  });

  it('refuses more than the limit, and a semantic that nobody knows', async () => {
    const { checker, many } = serve();
    const evaluations = Array.from({ length: limits.evaluationsPerRequestMax + 1 }, () => ({}));
    expect(await many({ ...ask, evaluations })).toMatchObject({
      status: 400,
      body: {
        detail: `evaluations: expected at most ${limits.evaluationsPerRequestMax} items, found a list of ${evaluations.length}`,
      },
    });
    const other = { ...ask, evaluations: [{}], options: { evaluations_semantic: 'some' } };
    expect((await many(other)).status).toBe(400);
    expect(checker.calls).toEqual([]);
  });
});

it('the discovery document names both endpoints', async () => {
  const reply = await serve().instance.inject('/.well-known/authzen-configuration');
  expect(reply.json()).toEqual({
    policy_decision_point: 'http://127.0.0.1:9',
    access_evaluation_endpoint: 'http://127.0.0.1:9/access/v1/evaluation',
    access_evaluations_endpoint: 'http://127.0.0.1:9/access/v1/evaluations',
  });
});

it('fuzz: an evaluation becomes a call or an error of the catalogue', () => {
  const near = fc.record({
    subject: fc.record({ type: fc.constant('agent'), id: fc.string({ unit: 'binary' }) }),
    action: fc.record({ name: fc.constantFrom('GET', 'CONNECT', 'x') }),
    resource: fc.record({
      type: fc.constant('url'),
      id: fc.string({ unit: 'binary' }).map((text) => `http://${text}`),
    }),
    context: fc.record({
      headers: fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })),
    }),
  });
  fc.assert(
    fc.property(fc.oneof(near, fc.anything()), (value) => {
      try {
        expect(callOf(readRequest(evaluationSchema, value), '').via).toBe('authzen');
      } catch (thrown) {
        if (!(thrown instanceof SallyportError)) throw thrown;
      }
    }),
    fuzzRuns,
  );
});
