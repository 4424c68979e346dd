import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { readMcp } from '../../../filters/content/mcp.ts';
import type { McpCall } from '../../../filters/facts.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const encoder = new TextEncoder();
const read = (text: string, contentType = 'application/json'): McpCall =>
  readMcp(encoder.encode(text), contentType);
const toolCall =
  '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search","arguments":{"q":[1]}}}';
const nested = (depth: number): string =>
  `{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":${'['.repeat(depth)}${']'.repeat(depth)}}}`;

describe('a strict message', () => {
  test.each([
    [toolCall, 'tools/call', 'search'],
    [' {"params": {"name" : "a\\u0062"}, "method":"tools/call", "jsonrpc":"2.0"}\n', 'tools/call', 'ab'],
    ['{"jsonrpc":"2.0","id":"x","method":"tools/list"}', 'tools/list', ''],
    ['{"jsonrpc":"2.0","method":"notifications/initialized"}', 'notifications/initialized', ''],
    ['{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}', 'prompts/get', ''],
    ['{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":{"k":1},"b":{"k":1},"k":["k","k"]}}', 'm', ''],
    ['{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\"k\\":1,\\"k\\":{[","b":"\\\\"}}', 'm', ''],
    ['{"jsonrpc":"2.0","id":1,"method":"m","params":{"__proto__":1,"constructor":2}}', 'm', ''],
  ])('is read: %s', (text, method, tool) => {
    expect(read(text)).toEqual({ kind: 'call', method, tool });
  });

  test.each([
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset="UTF-8"',
  ])('comes as %s', (contentType) => {
    expect(read(toolCall, contentType).kind).toBe('call');
  });

  test('may be nested as deep as the limit', () => {
    expect(read(nested(limits.mcpDepthMax - 2)).kind).toBe('call');
    expect(read(nested(limits.mcpDepthMax - 1)).kind).toBe('invalid');
  });
});

describe('anything else is invalid', () => {
  test.each([
    '',
    'text/plain',
    'application/jsonp',
    'application/json, text/plain',
    'application/json; charset=latin1',
    'application/json; charset=utf-8; charset=utf-16',
    'application/json-rpc',
    'text/event-stream',
  ])('content type %j', (contentType) => {
    expect(read(toolCall, contentType).kind).toBe('invalid');
  });

  test.each([
    ['nothing', ''],
    ['no JSON', 'hello'],
    ['two messages', `${toolCall}${toolCall}`],
    ['a batch', `[${toolCall}]`],
    ['an empty batch', '[]'],
    ['null', 'null'],
    ['a string', '"tools/call"'],
    ['a byte order mark', `\ufeff${toolCall}`],
    ['a comment', `/* */${toolCall}`],
    ['a trailing comma', '{"jsonrpc":"2.0","method":"m",}'],
    ['JSON-RPC 1.0', '{"method":"m","params":{},"id":1}'],
    ['a version that is a number', '{"jsonrpc":2.0,"method":"m"}'],
    ['a repeated method', '{"jsonrpc":"2.0","method":"a","method":"b"}'],
    ['a method repeated in escapes', '{"jsonrpc":"2.0","method":"a","m\\u0065thod":"b"}'],
    ['a method repeated behind white space', '{"jsonrpc":"2.0","method":"a","method"\t\n : "b"}'],
    ['a key repeated in depth', '{"jsonrpc":"2.0","method":"m","params":{"a":[{"k":1,"k":2}]}}'],
    ['a tool named twice', '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","name":"b"}}'],
    [
      'a tool named in two spellings',
      '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","Name":"b"}}',
    ],
    ['a method in two spellings', '{"jsonrpc":"2.0","method":"a","Method":"b"}'],
    ['no method', '{"jsonrpc":"2.0","id":1}'],
    ['a response', '{"jsonrpc":"2.0","id":1,"result":{}}'],
    ['an error response', '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}'],
    ['a request that is a response too', '{"jsonrpc":"2.0","id":1,"method":"m","result":{}}'],
    ['an empty method', '{"jsonrpc":"2.0","method":""}'],
    ['a method that is no string', '{"jsonrpc":"2.0","method":["tools/call"]}'],
    ['a method with a control character', '{"jsonrpc":"2.0","method":"a\\nb"}'],
    ['a method with half a character', '{"jsonrpc":"2.0","method":"\\ud800"}'],
    ['a null id', '{"jsonrpc":"2.0","id":null,"method":"m"}'],
    ['a fractional id', '{"jsonrpc":"2.0","id":1.5,"method":"m"}'],
    ['params by position', '{"jsonrpc":"2.0","method":"m","params":[1]}'],
    ['null params', '{"jsonrpc":"2.0","method":"m","params":null}'],
    ['tools/call without params', '{"jsonrpc":"2.0","id":1,"method":"tools/call"}'],
    ['tools/call without a name', '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}'],
    [
      'tools/call with a number as name',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}',
    ],
    [
      'tools/call with an inherited name',
      '{"jsonrpc":"2.0","method":"tools/call","params":{"__proto__":{"name":"a"}}}',
    ],
    ['a string without end', '{"jsonrpc":"2.0","method":"m'],
    ['an escape at the end', '"\\'],
  ])('%s', (_, text) => {
    expect(read(text).kind).toBe('invalid');
  });

  test('a name longer than the limit', () => {
    const named = (chars: number): McpCall => read(`{"jsonrpc":"2.0","method":"${'m'.repeat(chars)}"}`);
    expect(named(limits.mcpNameCharsMax).kind).toBe('call');
    expect(named(limits.mcpNameCharsMax + 1).kind).toBe('invalid');
  });

  test('bytes that are not UTF-8', () => {
    for (const bytes of [[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xe2, 0x82]]) {
      const text = encoder.encode('{"jsonrpc":"2.0","method":"');
      expect(readMcp(Uint8Array.from([...text, ...bytes, 0x22, 0x7d]), 'application/json')).toMatchObject({
        kind: 'invalid',
      });
    }
  });

  test('a body past the limit, whatever it is made of', () => {
    const over = limits.inspectedBodyBytesMax + 1;
    expect(read(toolCall.padEnd(over)).kind).toBe('invalid');
    for (const flood of ['[', '{"a":', '"', '\\', '{', '"a"', '\ufeff'])
      expect(read(flood.repeat(Math.floor(limits.inspectedBodyBytesMax / flood.length))).kind).toBe(
        'invalid',
      );
  });

  test('and never thrown: any bytes, any JSON', () => {
    const json = fc.json().map((text) => encoder.encode(text));
    const almost = fc
      .tuple(fc.nat(toolCall.length), fc.string({ maxLength: 4 }))
      .map(([at, text]) => encoder.encode(toolCall.slice(0, at) + text + toolCall.slice(at)));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), json, almost), (bytes) => {
        expect(['call', 'invalid']).toContain(readMcp(bytes, 'application/json').kind);
      }),
      fuzzRuns,
    );
  });

  test('a repeated key anywhere in any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string(), fc.jsonValue(), (value, key, other) => {
        const once = `{${JSON.stringify(key)}:${JSON.stringify(value)}}`;
        const twice = `{${JSON.stringify(key)}:${JSON.stringify(value)},${JSON.stringify(key)}:${JSON.stringify(other)}}`;
        const message = (params: string): McpCall =>
          read(`{"jsonrpc":"2.0","method":"m","params":{"a":${params}}}`);
        expect(message(once).kind).toBe('call');
        expect(message(twice)).toEqual({ kind: 'invalid', reason: 'a repeated member' });
      }),
      fuzzRuns,
    );
  });
});
