import { describe, expect, it } from 'vitest';
import { encodeCheckResponse } from '../../ext-authz/encode.ts';
import { rateLimitHeaders } from '../../ext-authz/rate-limit.ts';
import type { Decoded } from '../../ext-authz/wire-request.ts';
import type { Call } from '../../filters/facts.ts';
import { someCall } from '../support/call.ts';
import { refusalOf } from '../support/refusal.ts';
import { someAllow, someDeny, someHold, someQuotaExceeded, someRateLimited } from './support.ts';

const decoded = (call: Partial<Call> = {}): Decoded => ({
  call: someCall({ ...call, connection: {} }),
  remove: ['proxy-authorization', 'x-sallyport-agent'],
});
const metadata = (...args: Parameters<typeof encodeCheckResponse>) =>
  Object.fromEntries(
    Object.entries(encodeCheckResponse(...args).dynamic_metadata?.fields ?? {}).map(([key, value]) => [
      key,
      value.stringValue,
    ]),
  );

describe('an Allow', () => {
  it('tells the pin, the agent and the decision, and takes our headers out', () => {
    const answer = encodeCheckResponse(decoded(), someAllow());
    expect(answer.status.code).toBe(0);
    expect(metadata(decoded(), someAllow())).toEqual({
      dst: '203.0.113.10:443',
      agent: 'demo',
      decision: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV',
    });
    expect(answer.ok_response?.headers_to_remove).toEqual(['proxy-authorization', 'x-sallyport-agent']);
    const added = answer.ok_response?.response_headers_to_add.map(({ header }) => [header.key, header.value]);
    expect(added).toEqual([
      ['x-sallyport-decision', 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV'],
      ['ratelimit', '"demo";r=2;t=60'],
      ['ratelimit-policy', '"demo";q=3;w=60'],
    ]);
  });

  it('writes IPv6 in brackets', () => {
    const pin = { address: '2001:db8::1', port: 443, class: 'public' } as const;
    expect(metadata(decoded(), someAllow({ pin }))['dst']).toBe('[2001:db8::1]:443');
  });

  it.each([
    ['tls', 'intercept', undefined],
    ['sni', 'opaque', '203.0.113.10:443'],
    ['tunnel', 'tunnel', '203.0.113.10:443'],
  ] as const)('of a CONNECT with inspect %s says mode %s', (inspect, mode, dst) => {
    const told = metadata(decoded({ stage: 'connect' }), someAllow({ inspect }));
    expect([told['mode'], told['dst']]).toEqual([mode, dst]);
  });

  it('of a CONNECT tells what its agent was known by, for the tunnel, and of a request does not', () => {
    const { agent } = someAllow();
    if (agent === undefined) throw new Error('no agent');
    const allow = someAllow({ agent: { ...agent, proof: 'user-1001' } });
    expect(metadata(decoded({ stage: 'connect' }), allow)['proof']).toBe('user-1001');
    expect(metadata(decoded(), allow)).not.toHaveProperty('proof');
  });

  it('without a pin is not encoded, but for an intercepted CONNECT', () => {
    const bare = someAllow({ pin: undefined });
    expect(refusalOf(() => encodeCheckResponse(decoded(), bare))).toBe('Internal');
    expect(
      refusalOf(() => encodeCheckResponse(decoded({ stage: 'connect' }), { ...bare, inspect: 'sni' })),
    ).toBe('Internal');
    expect(encodeCheckResponse(decoded({ stage: 'connect' }), bare).status.code).toBe(0);
  });

  it('of a request that was not read is not encoded', () => {
    expect(refusalOf(() => encodeCheckResponse(undefined, someAllow()))).toBe('Internal');
  });
});

describe('every other decision', () => {
  it.each([someDeny(), someHold(), someQuotaExceeded(), someRateLimited()])(
    'is a denial: $kind',
    (decision) => {
      const answer = encodeCheckResponse(decoded(), decision);
      expect(answer.status.code).toBeGreaterThan(0);
      expect(answer.ok_response).toBeUndefined();
      expect(answer.denied_response?.status.code).toBeGreaterThanOrEqual(400);
    },
  );

  it('is a denial even where its caller reads HTTP 200', () => {
    const call = decoded({
      mcp: { kind: 'call', method: 'tools/list', tool: '' },
      body: { kind: 'whole', bytes: Buffer.from('{"jsonrpc":"2.0","id":1,"method":"tools/list"}') },
    });
    const answer = encodeCheckResponse(call, someDeny());
    expect(answer.denied_response?.status.code).toBe(200);
    expect(answer.status.code).toBe(7);
  });
});

describe('RateLimit headers', () => {
  it('list every quota, with names that cannot leave their quotes', () => {
    const state = { limit: 10, used: 12, windowMs: 1_500, resetMs: 1 };
    expect(
      rateLimitHeaders([
        { ...state, name: 'a"\\b\r\n' },
        { ...state, name: 'b', used: 4 },
      ]),
    ).toEqual({
      ratelimit: '"a\\"\\\\b??";r=0;t=1, "b";r=6;t=1',
      'ratelimit-policy': '"a\\"\\\\b??";q=10;w=2, "b";q=10;w=2',
    });
    expect(rateLimitHeaders([])).toEqual({});
  });
});
