import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import { decodeCheckRequest } from '../../ext-authz/decode.ts';
import { readCheckRequest } from '../../ext-authz/h2-check-request.ts';
import { refusalOf } from '../support/refusal.ts';
import { checkBytes } from './protos.ts';
import { httpCheck } from './support.ts';

const none = new Map<string, string>();
const decode = (message: unknown) => decodeCheckRequest(readCheckRequest(checkBytes(message)), none);
const refused = (message: unknown) => refusalOf(() => decode(message));
const stage = (name: string, more: Record<string, string> = {}) => ({
  context_extensions: { stage: name, ...more },
});

describe('body and MCP', () => {
  const post = (http: object, more: Record<string, string>, attributes: object = {}) =>
    httpCheck({ method: 'POST', headers: {}, ...http }, { ...stage('absolute', more), ...attributes });

  it('takes the body only where the route reads it', () => {
    const raw_body = Buffer.from('{}');
    expect(decode(post({ raw_body }, {})).call.body).toEqual({ kind: 'unread' });
    expect(decode(post({ raw_body }, { body: 'read' })).call.body).toEqual({
      kind: 'whole',
      bytes: raw_body,
    });
    expect(decode(post({}, { body: 'read' })).call.body).toMatchObject({ kind: 'whole' });
    expect(decode(post({ headers: { upgrade: 'websocket' } }, { body: 'read' })).call.body).toEqual({
      kind: 'unread',
    });
  });

  it('calls a body that Envoy cut too large, and refuses one past the limit or of another length than said', () => {
    const cut = post(
      { raw_body: Buffer.from('ab'), headers: { 'x-envoy-auth-partial-body': 'true' } },
      { body: 'read' },
    );
    expect(decode(cut).call.body).toEqual({ kind: 'too-large', limitBytes: limits.inspectedBodyBytesMax });
    const large = post({ raw_body: Buffer.alloc(limits.inspectedBodyBytesMax + 1) }, { body: 'read' });
    expect(refused(large)).toBe('RequestTooLarge');
    const short = post({ raw_body: Buffer.from('ab'), headers: { 'content-length': '3' } }, { body: 'read' });
    expect(refused(short)).toBe('RequestMalformed');
  });

  const json = { 'content-type': 'application/json' };
  const message = (more: object = {}) => Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 7, ...more }));
  const fetchCall = message({ method: 'tools/call', params: { name: 'fetch' } });
  const mcp = (http: object) => decode(post(http, { body: 'read', mcp: 'required' })).call.mcp;

  it('reads method and tool of a strict message out of the body', () => {
    expect(mcp({ raw_body: fetchCall, headers: json })).toEqual({
      kind: 'call',
      method: 'tools/call',
      tool: 'fetch',
    });
  });

  it.each<[string, object]>([
    ['no body', { headers: json }],
    ['another content type', { raw_body: fetchCall, headers: { 'content-type': 'text/plain' } }],
    ['no method', { raw_body: message({ result: {} }), headers: json }],
    [
      'a tool in two spellings',
      {
        raw_body: message({ method: 'tools/call', params: { name: 'fetch', Name: 'delete' } }),
        headers: json,
      },
    ],
    ['a batch', { raw_body: Buffer.from(`[${fetchCall}]`), headers: json }],
    ['a message in a GET', { method: 'GET', raw_body: fetchCall, headers: json }],
  ])('is invalid with %s', (_name, http) => {
    expect(mcp(http).kind).toBe('invalid');
  });

  it('is none in a GET without a body', () => {
    expect(mcp({ method: 'GET' })).toEqual({ kind: 'none' });
  });

  it('is invalid where the route does not send the body, whatever Envoy’s own filter read', () => {
    const fields = { method: { kind: 'stringValue', stringValue: 'tools/list' } };
    const attributes = { metadata_context: { filter_metadata: { 'envoy.filters.http.mcp': { fields } } } };
    const { call } = decode(post({ raw_body: fetchCall, headers: json }, { mcp: 'required' }, attributes));
    expect(call.mcp.kind).toBe('invalid');
  });

  it('is not looked for where no MCP rule applies', () => {
    expect(decode(post({ raw_body: fetchCall, headers: json }, { body: 'read' })).call.mcp).toEqual({
      kind: 'none',
    });
    expect(refused(post({}, { mcp: 'wanted' }))).toBe('RequestMalformed');
  });
});
