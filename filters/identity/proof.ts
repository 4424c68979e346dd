/**
 * What a CONNECT was known by, in a form that goes along with its tunnel. Everything inside is asked of the policy
 * by it again, so that a tunnel outlives neither a credential nor a user that the policy has taken away.
 *
 *   certificate-DIGEST   of the SPIFFE ID
 *   credential-DIGEST    of the agent's name and the digest that the policy holds of the password
 *   user-UID             Unix user
 *   pod, pod-UID         neither; and the Unix user, where one was looked up
 *
 * It is no credential: nothing takes it for one, and who reads it has less than who reads the policy. It needs no
 * key, which a sidecar that is started again beside a running Envoy would have lost.
 */
import { hash } from 'node:crypto';

const digest = (...parts: readonly string[]): string => hash('sha256', parts.join('\n'), 'hex');

export const certificateProof = (spiffeId: string): string =>
  `certificate-${digest('sallyport tunnel certificate', spiffeId)}`;

/** @param passwordSha256 hex, as the policy holds it. */
export const credentialProof = (name: string, passwordSha256: string): string =>
  `credential-${digest('sallyport tunnel credential', name, passwordSha256)}`;

export const userProof = (uid: number): string => `user-${uid}`;

/** @param uid undefined where the policy of that time named no Unix user, so that none was looked up. */
export const podProof = (uid: number | undefined): string => (uid === undefined ? 'pod' : `pod-${uid}`);

export type ReadProof =
  | Readonly<{ kind: 'certificate' | 'credential' }>
  | Readonly<{ kind: 'user-or-pod'; uid: number | undefined }>;

const pattern = /^(?:(certificate|credential)-[0-9a-f]{64}|user-(\d{1,10})|pod(?:-(\d{1,10}))?)$/;

/** Undefined where it is none: a tunnel of a data plane that says nothing, or says something else. */
export function readProof(text: string): ReadProof | undefined {
  const match = pattern.exec(text);
  if (match === null) return undefined;
  const [, kind, user, pod] = match;
  if (kind === 'certificate' || kind === 'credential') return { kind };
  const uid = user ?? pod;
  return { kind: 'user-or-pod', uid: uid === undefined ? undefined : Number(uid) };
}
