/**
 * What conditions read of the body: `request.json`, `request.model`, `request.body_bytes`. Read once per
 * request and only when a condition asks. What is not there, cannot be read, or could be read in two ways
 * throws; the rule that asked then counts as its outcome says.
 */
import { limits } from '../../config/limits.ts';
import type { Body } from '../facts.ts';
import { parseStrictJson } from './strict-json.ts';

/** Facts of a call to a model, from the names that the OpenAI and Anthropic APIs give them. */
export class ModelFacts {
  readonly #json: Readonly<Record<string, unknown>>;
  readonly #bytes: number;

  constructor(json: unknown, bytes: number) {
    if (typeof json !== 'object' || json === null || Array.isArray(json))
      throw new Error('the body is not a JSON object');
    for (const name of Object.keys(json)) {
      // Some servers fold case when they read names (Go's encoding/json does, U+017F and U+212A included).
      const folded = name.toUpperCase().toLowerCase();
      if (folded !== name && modelMembers.has(folded))
        throw new Error(`the body spells ${folded} in a way that servers read differently`);
    }
    this.#json = { ...json };
    this.#bytes = bytes;
  }

  get name(): string | undefined {
    const value = this.#json['model'];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'string') throw new Error('the body’s model is not a string');
    return value;
  }

  get max_output_tokens(): bigint | undefined {
    let found: number | undefined;
    for (const member of tokenMembers) {
      const value = this.#json[member];
      if (value === undefined || value === null) continue;
      if (typeof value !== 'number' || !Number.isSafeInteger(value))
        throw new Error(`the body’s ${member} is not a whole number`);
      if (found !== undefined && found !== value)
        throw new Error('the body gives two different limits of output tokens');
      found = value;
    }
    return found === undefined ? undefined : BigInt(found);
  }

  get stream(): boolean | undefined {
    const value = this.#json['stream'];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'boolean') throw new Error('the body’s stream is not true or false');
    return value;
  }

  get input_bytes(): bigint {
    return BigInt(this.#bytes);
  }
}

const tokenMembers = ['max_tokens', 'max_completion_tokens', 'max_output_tokens'] as const;
const modelMembers: ReadonlySet<string> = new Set(['model', 'stream', ...tokenMembers]);

export class BodyFacts {
  readonly #body: Body;
  readonly #headers: Readonly<Record<string, string>>;
  #json: Readonly<{ value: unknown }> | Readonly<{ error: Error }> | undefined;
  #model: ModelFacts | undefined;

  constructor(body: Body, headers: Readonly<Record<string, string>>) {
    this.#body = body;
    this.#headers = headers;
  }

  get bytes(): Uint8Array {
    if (this.#body.kind === 'unread') throw new Error('the body was not read');
    if (this.#body.kind === 'too-large')
      throw new Error(`the body is larger than ${this.#body.limitBytes} bytes`);
    return this.#body.bytes;
  }

  get json(): unknown {
    this.#json ??= this.#read();
    if ('error' in this.#json) throw this.#json.error;
    return this.#json.value;
  }

  get model(): ModelFacts {
    this.#model ??= new ModelFacts(this.json, this.bytes.length);
    return this.#model;
  }

  #read(): Readonly<{ value: unknown }> | Readonly<{ error: Error }> {
    try {
      const bytes = this.bytes;
      if (bytes.length > limits.inspectedBodyBytesMax)
        throw new Error(`the body is larger than ${limits.inspectedBodyBytesMax} bytes`);
      this.#refuseOtherReadings();
      return { value: parseStrictJson(bytes) };
    } catch (thrown) {
      // Held, not swallowed: every access throws it again, without reading the body a second time.
      return {
        error:
          thrown instanceof SyntaxError || thrown instanceof TypeError ? notJson(thrown) : asError(thrown),
      };
    }
  }

  /** A header that makes the upstream read other bytes, or other characters, than were read here. */
  #refuseOtherReadings(): void {
    const encoding = this.#headers['content-encoding'];
    if (encoding !== undefined && encoding.trim().toLowerCase() !== 'identity')
      throw new Error('the body is encoded (content-encoding)');
    const type = this.#headers['content-type'];
    if (type === undefined) return;
    const [media = '', ...parameters] = type
      .toLowerCase()
      .split(';')
      .map((part) => part.trim());
    if (!/^application\/(?:[a-z0-9.!#$&^_-]+\+)?json$/.test(media))
      throw new Error('the content-type is not JSON');
    for (const parameter of parameters)
      if (parameter.startsWith('charset') && !/^charset="?utf-8"?$/.test(parameter))
        throw new Error('the charset is not utf-8');
  }
}

/** The parser's own message quotes the body, which no log and no answer may hold. */
const notJson = (cause: unknown): Error => new Error('the body is not JSON in UTF-8', { cause });
const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error('unreadable body'));
