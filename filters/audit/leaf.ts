/**
 * What the tree commits to for one record: canonical JSON (RFC 8785) without any of its content.
 *
 *   {"agent":"…","agent_seq":7,"at":1800000000000,"digest":"…","type":"decision","v":1}
 *
 * `digest` is SHA-256(salt ‖ line) of the journal's line as it is written, salt included; once the line is
 * erased, nobody can guess it back, and every proof still holds. `agent` is a pseudonym: the same agent has
 * the same one in all of the log, so that a missing `agent_seq` shows to somebody who may not know its name.
 */
import { createHmac, hash } from 'node:crypto';
import { jsonObject } from '../common/json-object.ts';
import type { JournalRecord } from '../common/record.ts';
import { sideBySide } from './merkle.ts';

export type Leaf = Readonly<{
  agent: string;
  /** From 1, without gaps within an agent. */
  agent_seq: number;
  /** Milliseconds since the epoch. */
  at: number;
  digest: string;
  type: string;
  v: 1;
}>;

/** Members in the order of RFC 8785, section 3.2.3; none of the texts has a character that JSON escapes. */
export const encodeLeaf = ({ agent, agent_seq, at, digest, type, v }: Leaf): string =>
  `{"agent":"${agent}","agent_seq":${agent_seq},"at":${at},"digest":"${digest}","type":"${type}","v":${v}}`;

const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value);
const isText = (value: unknown, pattern: RegExp): value is string =>
  typeof value === 'string' && pattern.test(value);

/** A leaf as it was read; undefined for bytes that are none, also where only the spelling differs. */
export function decodeLeaf(text: string): Leaf | undefined {
  const fields = jsonObject(text);
  if (fields === undefined) return undefined;
  const { agent, agent_seq, at, digest, type, v } = fields;
  if (
    !isText(agent, /^[\w-]{22}$/) ||
    !isCount(agent_seq) ||
    agent_seq < 1 ||
    !isCount(at) ||
    at < 0 ||
    !isText(digest, /^[\w-]{43}$/) ||
    !isText(type, /^[a-z_]{1,32}$/) ||
    v !== 1
  )
    return undefined;
  const leaf: Leaf = { agent, agent_seq, at, digest, type, v };
  return encodeLeaf(leaf) === text ? leaf : undefined;
}

export const contentDigest = (salt: Uint8Array, line: Uint8Array): string =>
  hash('sha256', sideBySide(salt, line), 'base64url');

export type Pseudonyms = (agent: string) => string;

/** 128 bits of HMAC-SHA-256 (RFC 2104) under the log's own key. */
export function createPseudonyms(key: Uint8Array, keptMax = 10_000): Pseudonyms {
  const kept = new Map<string, string>();
  return (agent) => {
    const known = kept.get(agent);
    if (known !== undefined) return known;
    const made = createHmac('sha256', key).update(agent).digest().toString('base64url', 0, 16);
    if (kept.size >= keptMax) kept.clear();
    kept.set(agent, made);
    return made;
  };
}

const msOf = (record: JournalRecord): number => Number(BigInt(record.at.physical_ns) / 1_000_000n);

export const leafOf = (
  record: JournalRecord,
  sequenced: Readonly<{ seq: number; salt: Uint8Array }>,
  line: Uint8Array,
  pseudonym: Pseudonyms,
): Leaf => ({
  agent: pseudonym(record.agent),
  agent_seq: sequenced.seq,
  at: msOf(record),
  digest: contentDigest(sequenced.salt, line),
  type: record.type,
  v: 1,
});
