/** Names to vetted addresses. The sidecar resolves, classifies every address and pins the one to dial. */
import type { Pin } from '../facts.ts';

export interface Resolver {
  /**
   * Resolves `host` (canonical name or address literal) and vets every address.
   * @param internal a rule names this host as internal: addresses that are not public may be reached.
   * @param owner the agent that asks: look-ups that run at once are shared out between agents.
   * @returns the pin to dial. Throws SallyportError AddressDenied (any address of the answer is not public
   * and `internal` is false: a mixed answer is a rebinding attempt), ResolutionFailed, or Overloaded.
   */
  pin(host: string, port: number, internal: boolean, owner?: string): Promise<Pin>;
  close(): void;
}
