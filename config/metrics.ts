/**
 * Every metric, declared once: name, help, type, labels, buckets. `docs/metrics.md` is generated from here.
 * Names are stable. Labels have few values: kinds, codes, states, and names that the policy declares;
 * never hosts, paths or ids, whose number an agent controls.
 */
export type Metric = Readonly<{
  name: `sallyport_${string}`;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  labels: readonly string[];
  /** Upper bounds; only and always for a histogram. */
  buckets?: readonly number[];
}>;

const metric = <const T extends Metric>(value: T): T => value;

/** From 25 µs, where a decision from memory lies, to 100 ms, where one that asks a resolver does. */
const decisionSeconds = [
  0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5,
] as const;
const lookupSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5] as const;
/** People answer in seconds to days. */
const holdSeconds = [1, 5, 15, 30, 60, 300, 900, 3_600, 14_400, 86_400, 604_800, 2_592_000] as const;

export const metrics = {
  // Decisions.
  decisions: metric({
    name: 'sallyport_decisions_total',
    help: 'Decisions, by kind and by error code; the code is empty where the kind is Allow.',
    type: 'counter',
    labels: ['kind', 'code'],
  }),
  decisionSeconds: metric({
    name: 'sallyport_decision_duration_seconds',
    help: 'Time from the question to the decision, without the time that a hold waits for a person.',
    type: 'histogram',
    labels: ['kind'],
    buckets: decisionSeconds,
  }),
  leasedCalls: metric({
    name: 'sallyport_leased_calls_total',
    help: 'Calls of leases that have ended: used, returned to their quotas, or forfeited because nobody can know.',
    type: 'counter',
    labels: ['result'],
  }),
  checksInFlight: metric({
    name: 'sallyport_checks_in_flight',
    help: 'Checks that are being decided now, those that wait for a person among them.',
    type: 'gauge',
    labels: [],
  }),
  ruleMatches: metric({
    name: 'sallyport_rule_decisions_total',
    help: 'Decisions that a rule made, by rule and its outcome (forbid, hold, allow).',
    type: 'counter',
    labels: ['rule', 'outcome'],
  }),
  shadowOutcomes: metric({
    name: 'sallyport_shadow_outcomes_total',
    help: 'Decisions that a rule in shadow mode would have made otherwise, by rule and by what it would have done.',
    type: 'counter',
    labels: ['rule', 'would'],
  }),
  // Quotas.
  quotaDebits: metric({
    name: 'sallyport_quota_debits_total',
    help: 'Calls counted against a quota.',
    type: 'counter',
    labels: ['quota'],
  }),
  quotaRefusals: metric({
    name: 'sallyport_quota_refusals_total',
    help: 'Calls refused because a quota had no room.',
    type: 'counter',
    labels: ['quota'],
  }),
  // Holds.
  holds: metric({
    name: 'sallyport_holds',
    help: 'Holds on record, by state.',
    type: 'gauge',
    labels: ['state'],
  }),
  holdWaitSeconds: metric({
    name: 'sallyport_hold_wait_seconds',
    help: 'Time from the opening of a hold to its end, by the state that ended it.',
    type: 'histogram',
    labels: ['state'],
    buckets: holdSeconds,
  }),
  holdTransitions: metric({
    name: 'sallyport_hold_transitions_total',
    help: 'Holds that came into a state.',
    type: 'counter',
    labels: ['state'],
  }),
  // Names and certificates.
  resolverLookups: metric({
    name: 'sallyport_resolver_lookups_total',
    help: 'Names resolved and vetted, by result: pinned, denied, failed, overloaded.',
    type: 'counter',
    labels: ['result'],
  }),
  resolverSeconds: metric({
    name: 'sallyport_resolver_duration_seconds',
    help: 'Time until a name was pinned or refused; answers from the cache are in the first bucket.',
    type: 'histogram',
    labels: [],
    buckets: lookupSeconds,
  }),
  certificatesMinted: metric({
    name: 'sallyport_certificates_minted_total',
    help: 'Certificates minted for inspected names.',
    type: 'counter',
    labels: [],
  }),
  certificatesCached: metric({
    name: 'sallyport_certificates_cached',
    help: 'Certificates in the cache.',
    type: 'gauge',
    labels: [],
  }),
  // Journal.
  journalAppends: metric({
    name: 'sallyport_journal_appends_total',
    help: 'Records written to the journal, by type: decision, hold, settlement, usage, incident, lockdown, audit.',
    type: 'counter',
    labels: ['type'],
  }),
  journalFailures: metric({
    name: 'sallyport_journal_failures_total',
    help: 'Records that could not be written; each is a request refused.',
    type: 'counter',
    labels: [],
  }),
  // Ledger.
  settledCalls: metric({
    name: 'sallyport_settled_calls_total',
    help: 'Calls of decisions whose end is known, by kind: Sent, NotSent, Unknown (lines of the access log were lost), Expired (never made).',
    type: 'counter',
    labels: ['kind'],
  }),
  ledgerOpen: metric({
    name: 'sallyport_ledger_open_decisions',
    help: 'Decisions that let something pass and are not settled yet.',
    type: 'gauge',
    labels: [],
  }),
  ledgerLagSeconds: metric({
    name: 'sallyport_ledger_lag_seconds',
    help: 'Since the last reading of the access log that reached its end.',
    type: 'gauge',
    labels: [],
  }),
  incidents: metric({
    name: 'sallyport_incidents_total',
    help: 'Requests that were forwarded and that nothing had let pass, by kind; of kind Gap: calls whose outcome nobody knows.',
    type: 'counter',
    labels: ['kind'],
  }),
  lockdown: metric({
    name: 'sallyport_lockdown',
    help: '1 while everything is refused, else 0.',
    type: 'gauge',
    labels: [],
  }),
  // Witnesses.
  witnessAnswers: metric({
    name: 'sallyport_witness_answers_total',
    help: 'What witnesses made of the log’s checkpoints: cosigned, conflict (another past of the log, or more of it than it holds), refused, unreachable.',
    type: 'counter',
    labels: ['result'],
  }),
  witnessRequests: metric({
    name: 'sallyport_witness_requests_total',
    help: 'Requests of other logs to this witness, by status of the answer; 200 is a cosignature.',
    type: 'counter',
    labels: ['status'],
  }),
  // Audit log.
  auditLeaves: metric({
    name: 'sallyport_audit_leaves',
    help: 'Leaves under the newest checkpoint of the audit log.',
    type: 'gauge',
    labels: [],
  }),
  auditBehind: metric({
    name: 'sallyport_audit_behind',
    help: 'Records of the journal that no checkpoint covers yet; past a limit nothing more is let pass.',
    type: 'gauge',
    labels: [],
  }),
  auditCheckpoints: metric({
    name: 'sallyport_audit_checkpoints_total',
    help: 'Checkpoints of the audit log that were signed and published.',
    type: 'counter',
    labels: [],
  }),
  // Telemetry.
  otlpSpans: metric({
    name: 'sallyport_otlp_spans_total',
    help: 'Spans for the OpenTelemetry collector, by result: sent; refused by it; dropped, as the queue was full or it was away. Of what is dropped from the queue, records are counted.',
    type: 'counter',
    labels: ['result'],
  }),
  // Policy.
  policyReloads: metric({
    name: 'sallyport_policy_reloads_total',
    help: 'Policy files read after a change, by result: accepted, refused.',
    type: 'counter',
    labels: ['result'],
  }),
  policyInfo: metric({
    name: 'sallyport_policy_info',
    help: 'Always 1; the version of the policy that holds.',
    type: 'gauge',
    labels: ['version'],
  }),
  policyRules: metric({
    name: 'sallyport_policy_rules',
    help: 'Rules of the policy that holds.',
    type: 'gauge',
    labels: [],
  }),
  // Process and data plane.
  dataPlaneUp: metric({
    name: 'sallyport_data_plane_up',
    help: '1 where the data plane is healthy, else 0.',
    type: 'gauge',
    labels: ['kind'],
  }),
  buildInfo: metric({
    name: 'sallyport_build_info',
    help: 'Always 1; the versions of Sallyport and of Node.',
    type: 'gauge',
    labels: ['version', 'node'],
  }),
} as const satisfies Record<string, Metric>;

export type MetricKey = keyof typeof metrics;
