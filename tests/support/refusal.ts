import { type ErrorCode, SallyportError } from '../../config/errors.ts';

/** The catalogue's code that `action` is refused with; `none` where it is not. Anything else thrown is a failure. */
export function refusalOf(action: () => unknown): ErrorCode | 'none' {
  try {
    action();
    return 'none';
  } catch (error) {
    if (error instanceof SallyportError) return error.code;
    throw error;
  }
}
