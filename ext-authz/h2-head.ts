/** The head of a request on HTTP/2 (RFC 9113, section 8.3): decompressed, validated, and the same one for the same bytes. */
import { type Field, HpackDecoder } from './h2-hpack.ts';

export type RequestHead = Readonly<{
  method: string;
  path: string;
  /** Of a name that is sent more than once, the first. */
  fields: ReadonlyMap<string, string>;
}>;

/** Blocks whose reading is kept: a client that asks the same thing again sends the same few bytes. */
const rememberedMax = 16;

const pseudoNames: ReadonlySet<string> = new Set([':method', ':path', ':scheme', ':authority']);
/** Section 8.2: lower case, and nothing that frames or splits. */
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
const badValue = /[\u0000\n\r]|^[\t ]|[\t ]$/;
/** Section 8.2.2. */
const ofConnection: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

export type HeadReader = Readonly<{
  /** Undefined: malformed, which is the stream's fault alone (section 8.1.1). Throws what ends the connection. */
  read(block: Buffer): RequestHead | undefined;
  /** For a block of a stream that nobody reads any more: the table follows it all the same. */
  skip(block: Buffer): void;
}>;

export function createHeadReader(): HeadReader {
  const decoder = new HpackDecoder();
  const remembered = new Map<string, RequestHead>();
  const decode = (block: Buffer): readonly Field[] => {
    const fields = decoder.decode(block);
    if (decoder.changed) remembered.clear();
    return fields;
  };
  return {
    read: (block) => {
      const key = block.toString('latin1');
      const known = remembered.get(key);
      if (known !== undefined) return known;
      const head = headOf(decode(block));
      if (head === undefined || decoder.changed) return head;
      if (remembered.size >= rememberedMax) remembered.clear();
      remembered.set(key, head);
      return head;
    },
    skip: decode,
  };
}

function headOf(list: readonly Field[]): RequestHead | undefined {
  const pseudo = new Map<string, string>();
  const fields = new Map<string, string>();
  for (const [name, value] of list) {
    if (badValue.test(value)) return undefined;
    if (name.startsWith(':')) {
      if (fields.size > 0 || pseudo.has(name) || !pseudoNames.has(name)) return undefined;
      pseudo.set(name, value);
      continue;
    }
    if (!fieldName.test(name) || ofConnection.has(name)) return undefined;
    if (name === 'te' && value !== 'trailers') return undefined;
    if (!fields.has(name)) fields.set(name, value);
  }
  const method = pseudo.get(':method');
  const path = pseudo.get(':path');
  if (method === undefined || path === undefined || path === '' || !pseudo.has(':scheme')) return undefined;
  return { method, path, fields };
}
