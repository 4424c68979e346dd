/** What is said of input that somebody else wrote. */
import { SallyportError } from '../config/errors.ts';

export const malformed = (message: string): SallyportError => new SallyportError('RequestMalformed', message);

/** A name for a message: quoted, cut, without control characters. */
export const shown = (text: string): string =>
  JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
