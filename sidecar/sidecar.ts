/** A running sidecar, as whoever started it holds it. */
import type { Logger } from 'pino';
import type { Settings } from '../config/settings.ts';
import type { Clock } from '../filters/common/time.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { CommandLine } from './invocation.ts';
import type { ProcessRef } from './run-file.ts';
import type { Status } from './status.ts';

export type SidecarOptions = Readonly<{
  settings: Settings;
  log: Logger;
  clock?: Clock;
  /** Progress of a long step, for a person. */
  report?: (line: string) => void;
  /** How another call of the command line reaches this sidecar; for hints in log and health. */
  commandLine?: CommandLine;
  /** Processes that end with this sidecar, such as the example upstream. */
  children?: readonly ProcessRef[];
  /** The admin API was asked to stop: whoever holds the sidecar calls `stop`. */
  onStopAsked?: () => void;
}>;

export type Sidecar = Readonly<{
  status(): Promise<Status>;
  policy(): CompiledPolicy;
  /** False where the file is not valid and the policy before it still holds. */
  reload(): Promise<boolean>;
  stop(): Promise<void>;
}>;
