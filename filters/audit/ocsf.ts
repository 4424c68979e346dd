/**
 * Records as OCSF 1.8.0 events of the class API Activity (6003), with the profile `security_control`. What the
 * class has no field for is in `unmapped`: delegation chain, logical time, the record itself.
 */
import type { ErrorCode } from '../../config/errors.ts';
import { errors } from '../../config/errors.ts';
import type { JournalRecord } from '../common/record.ts';
import { eventId } from './cloudevents.ts';
import { type AuditEntry, entryMs } from './entry.ts';

const schemaVersion = '1.8.0';
const categoryUid = 6;
const classUid = 6_003;
const className = 'API Activity';

const activities: Readonly<Record<string, readonly [number, string]>> = {
  POST: [1, 'Create'],
  GET: [2, 'Read'],
  HEAD: [2, 'Read'],
  OPTIONS: [2, 'Read'],
  QUERY: [2, 'Read'],
  PUT: [3, 'Update'],
  PATCH: [3, 'Update'],
  DELETE: [4, 'Delete'],
};

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errors, code);

function severityOf(record: JournalRecord): readonly [number, string] {
  if (record.type === 'incident' || record.type === 'lockdown') return [4, 'High'];
  if (record.type === 'decision' && isErrorCode(record.code) && errors[record.code].category === 'Security')
    return [3, 'Medium'];
  return record.outcome === 'Success' ? [1, 'Informational'] : [2, 'Low'];
}

/** What the control did; a person's answer and what became of a request are no act of it. */
function controlOf(record: JournalRecord): Readonly<Record<string, unknown>> {
  if (record.type !== 'decision') return {};
  const [actionId, dispositionId] =
    record.kind === 'Allow' ? [1, 1] : record.kind === 'RequiresOversight' ? [2, 14] : [2, 2];
  return {
    action_id: actionId,
    action: actionId === 1 ? 'Allowed' : 'Denied',
    disposition_id: dispositionId,
    disposition: dispositionId === 1 ? 'Allowed' : dispositionId === 14 ? 'Delayed' : 'Blocked',
    ...(record.rule === '' ? {} : { firewall_rule: { uid: record.rule, name: record.rule } }),
  };
}

/** The destination as endpoint, request and resource; a record of the log itself has none. */
function destinationOf({ what, resource }: AuditEntry, pin: string): Readonly<Record<string, unknown>> {
  const url = URL.canParse(resource) ? new URL(resource) : undefined;
  if (url === undefined) return resource === '' ? {} : { resources: [{ name: resource, type: 'Record' }] };
  const hostname = url.hostname.replace(/^\[|\]$/g, '');
  const ip = pin.slice(0, Math.max(0, pin.lastIndexOf(':'))).replace(/^\[|\]$/g, '');
  // The port as the record has it: `URL` drops the one that the scheme implies.
  const port = Number(/:(\d+)(?:\/|$)/.exec(resource.slice(url.protocol.length + 2))?.[1] ?? url.port);
  return {
    dst_endpoint: { hostname, port, ...(ip === '' ? {} : { ip }) },
    http_request: {
      http_method: what.split(' ', 1)[0],
      url: { url_string: resource, scheme: url.protocol.slice(0, -1), hostname, port, path: url.pathname },
    },
    resources: [{ name: resource, type: 'URL', hostname }],
  };
}

const shortName = (id: string): string => id.slice(id.lastIndexOf('/') + 1);

export function ocsfOf(entry: AuditEntry, product: Readonly<{ version: string; origin: string }>): object {
  const { record } = entry;
  const [method = ''] = entry.what.split(' ', 1);
  const [activityId, activityName] = activities[method] ?? [99, entry.what === '' ? entry.event : entry.what];
  const [severityId, severity] = severityOf(record);
  const isSuccess = entry.outcome === 'Success';
  const code = record.type === 'decision' ? record.code : '';
  // `uid` is what an actor must have; a caller that nobody knows is named so.
  const who = entry.who === '' ? 'unknown' : entry.who;
  const invokedBy = entry.delegation_chain[0];
  return {
    activity_id: activityId,
    activity_name: activityName,
    category_uid: categoryUid,
    category_name: 'Application Activity',
    class_uid: classUid,
    class_name: className,
    type_uid: classUid * 100 + activityId,
    type_name: `${className}: ${activityId === 99 ? 'Other' : activityName}`,
    severity_id: severityId,
    severity,
    time: entryMs(entry),
    status_id: isSuccess ? 1 : 2,
    status: isSuccess ? 'Success' : 'Failure',
    status_code: code === '' ? entry.outcome : code,
    ...(entry.why === '' ? {} : { status_detail: entry.why }),
    message: `${entry.event}: ${entry.what} ${entry.resource}`.trimEnd(),
    metadata: {
      version: schemaVersion,
      profiles: ['security_control'],
      product: { name: 'Sallyport', vendor_name: 'Sallyport', version: product.version, uid: product.origin },
      uid: eventId(entry),
      event_code: entry.event,
      correlation_uid: entry.id,
      sequence: entry.agent_seq,
      log_name: 'audit',
      original_time: entry.timestamp.physical_ns,
    },
    actor: {
      user: { uid: who, name: shortName(who), type_id: 99, type: 'AI agent' },
      ...(invokedBy === undefined || invokedBy === entry.who ? {} : { invoked_by: invokedBy }),
    },
    api: {
      operation: entry.what === '' ? entry.event : entry.what,
      request: { uid: record.type === 'decision' && record.request_id !== '' ? record.request_id : entry.id },
      response: {
        ...(record.type === 'settlement' && record.status > 0 ? { code: record.status } : {}),
        ...(code === '' ? {} : { error: code, error_message: entry.why }),
      },
    },
    src_endpoint: { name: shortName(who), uid: who },
    ...destinationOf(entry, record.type === 'decision' ? record.pin : ''),
    policy: { uid: entry.policy_version, version: entry.policy_version },
    ...controlOf(record),
    unmapped: {
      delegation_chain: entry.delegation_chain,
      logical: entry.timestamp.logical,
      outcome: entry.outcome,
      record,
    },
  };
}
