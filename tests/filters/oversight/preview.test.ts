import { createHash, createHmac } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { Call, Destination } from '../../../filters/facts.ts';
import { markWith } from '../../../filters/oversight/mask.ts';
import { openMark } from '../../../filters/oversight/mask-key.ts';
import { previewOf } from '../../../filters/oversight/preview.ts';
import { someCall } from '../../support/call.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const destination: Destination = {
  scheme: 'https',
  host: 'api.github.com',
  hostIsAddress: false,
  port: 443,
  method: 'POST',
  path: '/',
  query: '',
  mcp: { kind: 'none' },
};

const key = Buffer.alloc(32, 7);
const mark = markWith(key);

const preview = (changes: Partial<Call>, to: Partial<Destination> = {}) =>
  previewOf(someCall({ method: 'POST', ...changes }), { ...destination, ...to }, mark);

const bodyOf = (body: string | Uint8Array, type = 'application/json') => {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  return preview({ body: { kind: 'whole', bytes }, headers: { 'content-type': type } }).bodyPreview;
};

const hidden = mark('s3cr3t');

describe('previewOf', () => {
  it('marks what it hides by length and HMAC, so that two secrets look different', () => {
    expect(hidden).toBe(`•••[6:${createHmac('sha256', key).update('s3cr3t').digest('hex').slice(0, 8)}]`);
    expect(bodyOf('{"token":"s3cr3t","password":"s3cr3t"}')).toBe(
      `{"token":"${hidden}","password":"${hidden}"}`,
    );
    expect(bodyOf('{"token":["a"]}')).not.toBe(bodyOf('{"token":["b"]}'));
  });

  it.each(['key', 'sig'])('masks ?%s= in the query', (name) => {
    expect(preview({ path: `/?${name}=prod` }).url).not.toContain('prod');
  });

  it('shows a field named key: it is the name of a thing more often than a secret', () => {
    expect(bodyOf('{"key":"prod/backup.tar"}')).toBe('{"key":"prod/backup.tar"}');
  });

  it.each(['keys', 'monkey', 'keyboard', 'tokenizer', 'secretary', 'x-key-id', 'passwordless', 'design'])(
    'shows the value of %s',
    (name) => {
      expect(preview({ path: `/?${name}=prod` }).url).toContain(`${name}=prod`);
      expect(bodyOf(`{"${name}":"prod/backup.tar"}`)).toBe(`{"${name}":"prod/backup.tar"}`);
    },
  );

  it.each([
    'apiKey',
    'APIKey',
    'api-key',
    'apikey',
    'access_key',
    'privateKey2',
    'token2',
    'userPassword',
    'accesstoken',
    'X-Amz-Signature',
    'clientSecret',
    'set-cookie',
    'passwd',
    'aws_credentials',
  ])('hides the value of %s', (name) => {
    expect(preview({ path: `/?${name}=s3cr3t` }).url).toContain(`${name}=${hidden}`);
    expect(bodyOf(`{"${name}":"s3cr3t"}`)).toBe(`{"${name}":"${hidden}"}`);
    expect(bodyOf(`${name}: 's3cr3t'`, 'text/plain')).toBe(`${name}: ${hidden}`);
  });

  it('leaves out what Envoy itself adds, and shows it where a client could have said it', () => {
    const headers = { 'x-forwarded-proto': 'http', 'x-envoy-internal': 'true', 'x-forwarded-host': 'a.test' };
    expect(preview({ headers, via: 'envoy' }).headers).toEqual({ 'x-forwarded-host': 'a.test' });
    expect(preview({ headers, via: 'embedded' }).headers).toEqual(headers);
  });

  it('shows the address as it is dialled and the path as it is sent', () => {
    expect(preview({ path: '/a%20b?x=1' }).url).toBe('https://api.github.com/a%20b?x=1');
    expect(preview({ path: '/' }, { port: 8443 }).url).toBe('https://api.github.com:8443/');
    expect(preview({ path: '/' }, { host: '::1', scheme: 'http', port: 80 }).url).toBe('http://[::1]/');
  });

  it('hides the values of query parameters with secret names, however they are spelled', () => {
    const { url } = preview({ path: '/x?page=2&api_key=s3cr3t&%74oken=s3cr3t&sig=s3cr3t&flag&%E0%A4=1' });
    expect(url).toBe(
      `https://api.github.com/x?page=2&api_key=${hidden}&%74oken=${hidden}&sig=${hidden}&flag&%E0%A4=1`,
    );
  });

  it('hides credentials in headers and leaves out what only we say to each other', () => {
    const { headers } = preview({
      headers: {
        accept: 'text/html',
        authorization: 'Bearer s3cr3t',
        cookie: 's3cr3t',
        'x-api-key': 's3cr3t',
        'proxy-authorization': 's3cr3t',
        'x-goog-token': 's3cr3t',
        'x-client-secret': 's3cr3t',
        'db-password': 's3cr3t',
        'x-sallyport-source': '10.0.0.1:1',
        ':path': '/',
      },
    });
    expect(JSON.stringify(headers)).not.toContain('s3cr3t');
    expect(headers).toMatchObject({ accept: 'text/html', authorization: mark('Bearer s3cr3t') });
    expect(Object.keys(headers)).not.toContain('x-sallyport-source');
    expect(Object.keys(headers)).not.toContain(':path');
  });

  it('says how much of a long header it leaves out', () => {
    const { headers } = preview({ headers: { accept: 'x'.repeat(limits.holdHeaderPreviewCharsMax + 5) } });
    expect(headers['accept']).toMatch(/x… \(5 more\)$/);
  });

  it('hides JSON fields with secret names and leaves the rest as it is spelled', () => {
    const text = `{ "a": 1.50, "a": 1e400, "password" : "s3cr3t", "max_tokens": 100,
  "nested": [{"api\\u004bey": {"deep": ["s3cr3t"]}, "b": "t,{}[]:\\"x"}, "token"], "tokens": "s3cr3t", "n": {} }`;
    const deep = mark('{"deep": ["s3cr3t"]}');
    expect(bodyOf(text)).toBe(`{ "a": 1.50, "a": 1e400, "password" : "${hidden}", "max_tokens": 100,
  "nested": [{"api\\u004bey": "${deep}", "b": "t,{}[]:\\"x"}, "token"], "tokens": "${hidden}", "n": {} }`);
  });

  it('hides secrets in forms and in text of no known form', () => {
    expect(bodyOf('user=a&password=s3cr3t', 'application/x-www-form-urlencoded')).toBe(
      `user=a&password=${hidden}`,
    );
    expect(bodyOf('user: a\napi_key: s3cr3t\n{"secret": "s3cr3t s3cr3t",', 'text/yaml')).not.toContain(
      's3cr3t',
    );
  });

  it('shows nothing of what is not UTF-8, and says how much there is', () => {
    const bytes = new Uint8Array([0x1f, 0x8b, 0xff, 0xfe]);
    expect(preview({ body: { kind: 'whole', bytes } })).toMatchObject({ bodyBytes: 4, bodyPreview: '' });
    expect(preview({ body: { kind: 'unread' } })).toMatchObject({ bodyBytes: 0, bodyPreview: '' });
  });

  it('spells out what would steer a terminal or turn the reading direction', () => {
    expect(bodyOf('\u001b[2Ja\u202Eb\u200Bc\uFEFF\r\n\td', 'text/plain')).toBe(
      '\\u{1b}[2Ja\\u{202e}b\\u{200b}c\\u{feff}\\u{d}\n\td',
    );
    expect(preview({ path: '/\u202Ex' }).url).toContain('\\u{202e}');
    expect(preview({}, { mcp: { kind: 'call', method: 'tools/call', tool: 'a\u001b' } }).mcp).toBe(
      'tools/call a\\u{1b}',
    );
  });

  it('cuts a long body between two characters', () => {
    const shown = bodyOf('€'.repeat(limits.holdBodyPreviewBytesMax), 'text/plain');
    expect(Buffer.byteLength(shown)).toBeLessThanOrEqual(limits.holdBodyPreviewBytesMax);
    expect(shown).toMatch(/^€+…$/);
  });

  it('takes the largest body that is read, in one string or nested as deep as it goes', () => {
    const bytes = limits.inspectedBodyBytesMax;
    for (const text of [
      `"${'x'.repeat(bytes - 2)}"`,
      `{"password":"${'\\n'.repeat(bytes / 2 - 10)}"}`,
      '['.repeat(bytes / 2) + ']'.repeat(bytes / 2),
      'a'.repeat(bytes),
      'a='.repeat(bytes / 2),
    ])
      expect(Buffer.byteLength(bodyOf(text))).toBeLessThanOrEqual(limits.holdBodyPreviewBytesMax);
  });

  it('shows JSON that has no secret names exactly, whatever it is', () => {
    const plain = fc.json().filter((text) => !/["\\]|[^\x20-\x7e]/.test(text.replace(/"[a-z0-9 ]*"/g, '')));
    fc.assert(
      fc.property(plain, (text) => {
        fc.pre(!/token|secret|key|passw|credential|signature|authorization|cookie|sig|pwd|auth/i.test(text));
        expect(bodyOf(text)).toBe(text);
      }),
      fuzzRuns,
    );
  });

  it('shows no secret of any JSON, and never fails', () => {
    const value = fc.jsonValue();
    fc.assert(
      fc.property(value, value, fc.boolean(), (one, other, isDeep) => {
        const secret = { password: isDeep ? [other, { a: 's3cr3t' }] : 's3cr3t', after: 'shown' };
        const shown = bodyOf(JSON.stringify([one, secret, { one, secret }]));
        expect(shown).not.toContain('s3cr3t');
        expect(shown).toContain('"after":"shown"');
      }),
      fuzzRuns,
    );
  });

  it('makes something safe to show of any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'binary' }), (bytes, text) => {
        const shown = preview({
          path: `/${text}`,
          headers: { [text]: text },
          body: { kind: 'whole', bytes },
        });
        expect(JSON.stringify(shown)).not.toMatch(/[\p{Cf}\p{Zl}\p{Zp}\x7f-\x9f]/u);
        expect(shown.url).not.toMatch(/\p{Cc}/u);
      }),
      fuzzRuns,
    );
  });
});

describe('the key of the marks', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'sallyport-mask-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it('is made at first use, for its owner alone, and stays', () => {
    const first = openMark(dir)('s3cr3t');
    expect(readdirSync(dir)).toEqual(['mask.key']);
    const file = join(dir, 'mask.key');
    expect([statSync(file).mode & 0o777, statSync(file).size]).toEqual([0o600, 32]);
    chmodSync(file, 0o644);
    expect(openMark(dir)('s3cr3t')).toBe(first);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(first).toBe(markWith(readFileSync(file))('s3cr3t'));
  });

  it('is another one in another directory, so that no table of hashes tells a value', () => {
    const other = mkdtempSync(join(tmpdir(), 'sallyport-mask-'));
    const marks = [openMark(dir)('s3cr3t'), openMark(other)('s3cr3t')];
    rmSync(other, { recursive: true });
    expect(new Set(marks).size).toBe(2);
    const plain = createHash('sha256').update('s3cr3t').digest('hex').slice(0, 8);
    for (const one of marks) expect(one).not.toContain(plain);
  });

  it('is made anew where only a part of it was written', () => {
    openMark(dir);
    truncateSync(join(dir, 'mask.key'), 5);
    openMark(dir);
    expect(readFileSync(join(dir, 'mask.key'))).toHaveLength(32);
  });

  it('that cannot be made is an error of the catalogue', () => {
    expect(() => openMark(join(dir, 'none'))).toThrow(expect.objectContaining({ code: 'StateUnavailable' }));
  });
});
