/** Records as CloudEvents 1.0 in JSON (CloudEvents JSON event format, section 3), for whoever collects events. */
import type { UsageEvent } from '../common/record.ts';
import type { AuditEntry } from './entry.ts';

export type CloudEvent = Readonly<{
  specversion: '1.0';
  id: string;
  source: string;
  type: string;
  /** RFC 3339, to the nanosecond. */
  time: string;
  datacontenttype: 'application/json';
  subject?: string;
  data: unknown;
}>;

const nanosecondDigits = 9;

/** `2027-01-15T08:00:00.123456789Z` */
export function rfc3339(physicalNs: string): string {
  const padded = physicalNs.padStart(nanosecondDigits + 1, '0');
  const seconds = Number(padded.slice(0, -nanosecondDigits));
  return `${new Date(seconds * 1_000).toISOString().slice(0, -5)}.${padded.slice(-nanosecondDigits)}Z`;
}

/** One record has one number in its agent, so a repeat of the same event has the same id. */
export const eventId = ({ id, type, agent_seq }: AuditEntry): string => `${id}/${type}/${agent_seq}`;

/** `origin`: the log's. Usage is an event already, and stays the one that it is. */
export function cloudEventOf(entry: AuditEntry, origin: string): CloudEvent | UsageEvent {
  if (entry.record.type === 'usage') return entry.record.event;
  return {
    specversion: '1.0',
    id: eventId(entry),
    source: `//${origin}`,
    type: `dev.sallyport.audit.${entry.event}`,
    time: rfc3339(entry.timestamp.physical_ns),
    datacontenttype: 'application/json',
    // An attribute is absent rather than empty (CloudEvents 1.0, section 3.1).
    ...(entry.who === '' ? {} : { subject: entry.who }),
    data: entry,
  };
}
