/** Records of what is done to the log itself. */
import type { Ids } from '../common/ids.ts';
import type { AuditRecord } from '../common/record.ts';
import { type Clock, toWireTimestamp } from '../common/time.ts';

export type Act = Pick<AuditRecord, 'action' | 'resource' | 'why' | 'details'> & Readonly<{ by?: string }>;

/** Writes one down. Throws what the journal throws: then the act must not happen. */
export type Recorder = (act: Act) => AuditRecord;

export const createRecorder =
  (
    deps: Readonly<{
      ids: Ids;
      clock: Clock;
      policyVersion(): string;
      append(record: AuditRecord): void;
    }>,
  ): Recorder =>
  ({ by = '', ...act }) => {
    const record: AuditRecord = {
      type: 'audit',
      id: deps.ids.of('aud'),
      at: toWireTimestamp(deps.clock.now()),
      agent: '',
      delegation_chain: [],
      policy_version: deps.policyVersion(),
      by,
      what: act.action,
      outcome: 'Success',
      ...act,
    };
    deps.append(record);
    return record;
  };
