/** Check requests and decisions for tests of this folder. */
import pino from 'pino';
import type { ErrorCode } from '../../config/errors.ts';
import type { Checker } from '../../ext-authz/checker.ts';
import type { HoldId, RuleName } from '../../filters/common/brand.ts';
import type {
  Allow,
  Decision,
  Deny,
  QuotaExceeded,
  RateLimited,
  RequiresOversight,
} from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';
import { fakeAllow } from '../support/decisions.ts';

export const silent = pino({ level: 'silent' });

export const someAllow = (over: Partial<Allow> = {}): Allow => ({
  ...fakeAllow(),
  pin: { address: '203.0.113.10', port: 443, class: 'public' },
  ...over,
});

const head = () => {
  const { kind, inspect, pin, hold, ...rest } = fakeAllow();
  return rest;
};

export const someDeny = (code: ErrorCode = 'EgressDenied', over: Partial<Deny> = {}): Deny => ({
  ...head(),
  kind: 'Deny',
  code,
  reason: 'no rule fits',
  retryAfterMs: undefined,
  hold: undefined,
  ...over,
});

export const someHold = (): RequiresOversight => ({
  ...head(),
  kind: 'RequiresOversight',
  policy_id: 'pay-held' as RuleName,
  timeout: 3_600_000,
  hold: 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV' as HoldId,
  retryAfterMs: 4_200,
});

export const someQuotaExceeded = (retryAfterMs = 2_500): QuotaExceeded => ({
  ...head(),
  kind: 'QuotaExceeded',
  quota: 'demo',
  limit: 3,
  used: 3,
  reset_at: 1_767_355_201_234,
  retryAfterMs,
  quotas: [{ name: 'demo', limit: 3, used: 3, windowMs: 60_000, resetMs: 2_500 }],
});

export const someRateLimited = (): RateLimited => ({
  ...head(),
  kind: 'RateLimited',
  quota: 'burst',
  retry_after: 10,
});

export type RecordingChecker = Checker &
  Readonly<{ calls: Call[]; signals: AbortSignal[]; settled: [Decision, 'Sent' | 'NotSent'][] }>;

/** A checker whose answer the test chooses: the boundary that these servers stand in front of. */
export function checkerThat(
  decide: (call: Call, signal: AbortSignal) => Decision | Promise<Decision>,
): RecordingChecker {
  const calls: Call[] = [];
  const signals: AbortSignal[] = [];
  const settled: [Decision, 'Sent' | 'NotSent'][] = [];
  return {
    calls,
    signals,
    settled,
    check: async (call, signal) => {
      calls.push(call);
      signals.push(signal);
      return decide(call, signal);
    },
    settle: (decision, outcome) => void settled.push([decision, outcome]),
    refundUnsent: () => undefined,
  };
}

/** Waits until `holds` says so; fails after ten seconds. */
export async function until(holds: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error('waited 10 s for a condition that never held');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

type Json = Readonly<Record<string, unknown>>;

/** A CheckRequest as Envoy sends it for a request on the explicit listener. */
export const httpCheck = (over: Json = {}, attributes: Json = {}): Json => ({
  attributes: {
    source: { address: { socket_address: { address: '127.0.0.1', port_value: 50_001 } } },
    request: {
      http: {
        id: 'req-1',
        method: 'GET',
        scheme: 'http',
        host: 'api.example.com',
        path: '/v1/things?a=1',
        protocol: 'HTTP/1.1',
        headers: {
          ':method': 'GET',
          ':path': '/v1/things?a=1',
          ':authority': 'api.example.com',
          ':scheme': 'http',
          'user-agent': 'curl/8',
          'x-sallyport-source': '127.0.0.1:50001',
          'x-sallyport-connection': '7',
          'x-sallyport-connect': '-',
          'x-sallyport-agent': '',
        },
        ...over,
      },
    },
    context_extensions: { stage: 'absolute' },
    ...attributes,
  },
});
