import { describe, expect, it } from 'vitest';
import { type ErrorCode, type ErrorEntry, errors } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { renderDenial, renderForEnvoy } from '../../ext-authz/denial.ts';
import type { HoldId } from '../../filters/common/brand.ts';
import type { Body, Call } from '../../filters/facts.ts';
import { someCall } from '../support/call.ts';
import { someDeny, someHold, someQuotaExceeded, someRateLimited } from './support.ts';

const whole = (value: unknown): Body => ({ kind: 'whole', bytes: Buffer.from(JSON.stringify(value)) });
const json = { 'content-type': 'application/json' };
const body = (text: string): Record<string, unknown> => JSON.parse(text);

describe('problem+json, the default', () => {
  it('tells rule, decision, hold, when to retry and how to ask', () => {
    const denial = renderDenial(someCall(), someHold());
    expect(denial.status).toBe(403);
    expect(denial.headers).toMatchObject({
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'retry-after': '5',
      'x-sallyport-decision': 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV',
      'x-sallyport-hold': 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV',
      'x-sallyport-error': 'HoldPending',
    });
    expect(denial.headers['x-should-retry']).toBeUndefined();
    expect(body(denial.body)).toMatchObject({
      type: 'urn:sallyport:error:HoldPending',
      status: 403,
      code: 'HoldPending',
      category: 'Transient',
      rule: 'demo-read',
      decision: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV',
      policy_version: '0123456789ab',
      retry: { can_help: true, after_ms: 4_200 },
      hold: 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV',
      next: errors.HoldPending.next,
      detail: expect.stringContaining('hold_01ARZ3NDEKTSV4RRFFQ69G5FAV'),
    });
  });

  it('is what a request that could not be read gets', () => {
    const denial = renderDenial(undefined, someDeny('RequestMalformed'));
    expect([denial.status, denial.headers['content-type']]).toEqual([400, 'application/problem+json']);
  });

  it('has the status of the catalogue, and Retry-After exactly where waiting helps', () => {
    for (const code of Object.keys(errors) as ErrorCode[]) {
      const entry: ErrorEntry = errors[code];
      const denial = renderDenial(someCall(), someDeny(code, { retryAfterMs: 1_001 }));
      expect(denial.status).toBe(entry.status);
      expect(denial.headers['retry-after']).toBe(entry.retry === 'after' ? '2' : undefined);
      expect(denial.headers['x-should-retry']).toBe(entry.retry === 'after' ? undefined : 'false');
      expect(body(denial.body)['retry']).toEqual(
        entry.retry === 'after' ? { can_help: true, after_ms: 1_001 } : { can_help: false },
      );
    }
  });
});

describe('throttling', () => {
  it('carries RateLimit and RateLimit-Policy', () => {
    const { status, headers } = renderDenial(someCall(), someQuotaExceeded());
    expect(status).toBe(429);
    expect(headers).toMatchObject({
      ratelimit: '"demo";r=0;t=3',
      'ratelimit-policy': '"demo";q=3;w=60',
      'retry-after': '3',
    });
  });

  it('never says to come back in no time', () => {
    expect(renderDenial(someCall(), someRateLimited()).headers['retry-after']).toBe('1');
    expect(renderDenial(someCall(), someQuotaExceeded(0)).headers['retry-after']).toBe('1');
  });

  it('tells client libraries not to wait for longer than they should', () => {
    const { headers } = renderDenial(someCall(), someQuotaExceeded(limits.clientRetryMsMax + 1));
    expect(headers).toMatchObject({ 'retry-after': '61', 'x-should-retry': 'false' });
  });
});

describe('shapes', () => {
  const chat = { path: '/openai/v1/chat/completions?x=1', headers: json };
  const rpc = { jsonrpc: '2.0', id: 'a1', method: 'tools/call' };
  it.each<[string, Partial<Call>, string]>([
    ['/v1/chat/completions', chat, 'openai'],
    ['/v1/responses', { path: '/v1/responses' }, 'openai'],
    ['/v1/embeddings', { path: '/v1/embeddings' }, 'openai'],
    ['/v1/models/x', { path: '/v1/models/x' }, 'openai'],
    ['the host of OpenAI', { authority: 'api.openai.com:443', path: '/other' }, 'openai'],
    ['a header of OpenAI', { headers: { 'openai-beta': 'x' } }, 'openai'],
    ['a path that only contains the words', { path: '/v1/responsesx?/v1/models' }, 'problem'],
    ['/v1/messages', { path: '/v1/messages' }, 'anthropic'],
    [
      'anthropic-version',
      { path: '/v1/models', headers: { 'anthropic-version': '2023-06-01' } },
      'anthropic',
    ],
    ['a JSON-RPC body', { headers: json, body: whole(rpc) }, 'json-rpc'],
    ['an MCP call', { headers: json, mcp: { kind: 'call', method: 'tools/list', tool: '' } }, 'json-rpc'],
    ['an MCP message that is invalid', { headers: json, mcp: { kind: 'invalid', reason: 'x' } }, 'json-rpc'],
    ['a JSON body that is not JSON-RPC', { headers: json, body: whole({ a: '"jsonrpc"' }) }, 'problem'],
    [
      'a broken JSON body',
      { headers: json, body: { kind: 'whole', bytes: Buffer.from('{"jsonrpc":') } },
      'problem',
    ],
    ['JSON-RPC of another type', { headers: { 'content-type': 'text/plain' }, body: whole(rpc) }, 'problem'],
    ['gRPC', { headers: { 'content-type': 'application/grpc+proto' } }, 'grpc'],
    ['gRPC-Web', { headers: { 'content-type': 'application/grpc-web' } }, 'problem'],
    ['a CONNECT', { stage: 'connect', headers: { 'openai-beta': 'x' } }, 'problem'],
  ])('%s', (_name, call, expected) => {
    const denial = renderDenial(someCall(call), someDeny());
    const shape = (): string => {
      if (denial.grpcStatus !== undefined) return 'grpc';
      const parsed = body(denial.body);
      if ('jsonrpc' in parsed) return 'json-rpc';
      if (parsed['type'] === 'error') return 'anthropic';
      return 'error' in parsed ? 'openai' : 'problem';
    };
    expect(shape()).toBe(expected);
  });

  it('OpenAI: message, type, param and code', () => {
    const { error } = body(renderDenial(someCall(chat), someDeny()).body);
    expect(error).toMatchObject({
      type: 'permission_error',
      param: null,
      code: 'EgressDenied',
      message: expect.stringContaining('rule demo-read'),
      sallyport: { decision: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV' },
    });
  });

  it('Anthropic: type, error and request_id', () => {
    const parsed = body(renderDenial(someCall({ path: '/v1/messages' }), someQuotaExceeded()).body);
    expect(parsed).toMatchObject({
      type: 'error',
      error: { type: 'rate_limit_error' },
      request_id: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV',
    });
  });

  it.each<[string, Partial<Call>, number, unknown]>([
    ['a known id is answered with 200', { headers: json, body: whole(rpc) }, 200, 'a1'],
    [
      'a message of MCP whose body was not read is answered by the status',
      { mcp: { kind: 'call', method: 'x', tool: '' } },
      403,
      null,
    ],
    [
      'a notification is answered by the status',
      { headers: json, body: whole({ jsonrpc: '2.0', method: 'x' }) },
      403,
      null,
    ],
    ['a batch is answered by the status', { headers: json, body: whole([rpc]) }, 403, null],
    [
      'an id of any length is not echoed',
      { headers: json, body: whole({ ...rpc, id: 'x'.repeat(limits.rpcIdCharsMax + 1) }) },
      403,
      null,
    ],
    ['an id that is an object is not echoed', { headers: json, body: whole({ ...rpc, id: {} }) }, 403, null],
  ])('JSON-RPC: %s', (_name, call, status, id) => {
    const denial = renderDenial(someCall(call), someDeny());
    expect(denial.status).toBe(status);
    expect(body(denial.body)).toMatchObject({
      jsonrpc: '2.0',
      id,
      error: { code: -32_003, data: { code: 'EgressDenied' } },
    });
  });

  it('gRPC: trailers only for the caller; HTTP status and plain message for Envoy', () => {
    const call = someCall({ headers: { 'content-type': 'application/grpc' } });
    const decision = someDeny('EgressDenied', { reason: '100 % nö' });
    const denial = renderDenial(call, decision);
    expect(denial).toMatchObject({ status: 200, body: '', grpcStatus: 7 });
    expect(denial.headers).toMatchObject({
      'content-type': 'application/grpc',
      'grpc-status': '7',
      'grpc-message': '100 %25 n%C3%B6',
      'grpc-retry-pushback-ms': '-1',
    });
    const told = renderForEnvoy(call, decision);
    expect(told).toMatchObject({ status: 403, body: '100 % nö', headers: { 'grpc-status': '7' } });
    expect(told.headers['content-type']).toBeUndefined();
  });
});

describe('what a denial never does', () => {
  const hostile = 'a\r\nset-cookie: x=1\u2028"}';
  it.each<[string, Partial<Call>]>([
    ['problem', {}],
    ['openai', { path: '/v1/models' }],
    ['grpc', { headers: { 'content-type': 'application/grpc' } }],
  ])('let text out of its place: %s', (_name, call) => {
    const decision = someDeny('HoldDenied', { reason: hostile, hold: 'hold_1\r\nx: y' as HoldId });
    for (const denial of [renderDenial(someCall(call), decision), renderForEnvoy(someCall(call), decision)]) {
      for (const value of Object.values(denial.headers)) expect(value).toMatch(/^[\x20-\x7e]*$/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is the subject
      expect(denial.body).not.toMatch(/[\u0000-\u001f\u2028]/);
    }
  });

  it('grow past its limit', () => {
    const detail = body(renderDenial(someCall(), someDeny('Forbidden', { reason: 'x'.repeat(10_000) })).body)[
      'detail'
    ];
    expect(String(detail)).toHaveLength(limits.denialDetailCharsMax);
  });
});
