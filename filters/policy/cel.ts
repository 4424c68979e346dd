/** The CEL library, loaded for the first condition of a process: 2 MiB that a policy without one does not need. */
import { createRequire } from 'node:module';

type Cel = typeof import('@marcbachmann/cel-js');

const require = createRequire(import.meta.url);
let loaded: Cel | undefined;

export function cel(): Cel {
  const found: Cel = loaded ?? require('@marcbachmann/cel-js');
  loaded = found;
  return found;
}
