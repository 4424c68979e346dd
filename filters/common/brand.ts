declare const brand: unique symbol;
/** A value that cannot be mistaken for another of the same shape. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** The agent's name in the policy. */
export type AgentName = Brand<string, 'AgentName'>;
/** `spiffe://trust-domain/path` (SPIFFE-ID, section 2). */
export type SpiffeId = Brand<string, 'SpiffeId'>;
export type RuleName = Brand<string, 'RuleName'>;
/** First 12 hex digits of the SHA-256 of the policy's text. */
export type PolicyVersion = Brand<string, 'PolicyVersion'>;
/** `dec_` and 26 characters of Crockford base 32 (a ULID). */
export type DecisionId = Brand<string, 'DecisionId'>;
/** `hold_` and 26 characters of Crockford base 32 (a ULID). */
export type HoldId = Brand<string, 'HoldId'>;
/** Lower-case hex SHA-256. */
export type Digest = Brand<string, 'Digest'>;
