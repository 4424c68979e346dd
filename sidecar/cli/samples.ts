/** Calls of the example upstreams to paste, each shown only where the policy decides it as it is shown. */
import { SallyportError } from '../../config/errors.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { type ExplainReport, explain } from '../explain.ts';
import type { CommandLine } from '../invocation.ts';
import type { Status } from '../status.ts';
import { type Demo, demoHost } from './demo.ts';
import { duration, shellWord } from './output.ts';

export type Sample = Readonly<{ title: string; command: string }>;

export type SampleGround = Readonly<{
  demo: Pick<Demo, 'http' | 'https'>;
  status: Pick<Status, 'data_plane' | 'ca'>;
  policy: CompiledPolicy;
  /** The agent that whoever pastes the lines calls as; undefined where the policy knows none. */
  agent: string | undefined;
  commandLine: CommandLine;
}>;

/** More calls than this are nothing to wait for. */
const callsMax = 9;

export function samplesOf({ demo, status, policy, agent, commandLine }: SampleGround): readonly Sample[] {
  if (agent === undefined) return [];
  const curl = `curl -sS -x ${shellWord(`http://${new URL(status.data_plane.proxy).host}`)}`;
  const plain = `http://${demoHost}:${demo.http}`;
  const secure = `https://${demoHost}:${demo.https}`;
  const order = { body: '{"item":"book"}', headers: { 'content-type': 'application/json' } };
  const ask = (
    method: string,
    url: string,
    more: Readonly<{ body?: string; headers?: Record<string, string> }> = {},
  ): ExplainReport | undefined => {
    try {
      return explain(policy, { method, url, agent, headers: {}, ...more }, Date.now());
    } catch (thrown) {
      // An agent of the settings that the policy does not have: nothing of it is allowed, so nothing is shown.
      if (thrown instanceof SallyportError) return undefined;
      throw thrown;
    }
  };
  const found: Sample[] = [];
  if (ask('GET', `${plain}/hello`)?.decision === 'Allow')
    found.push({ title: 'allowed', command: `${curl} ${plain}/hello` });
  if (ask('GET', `${plain}/admin/users`)?.code === 'Forbidden')
    found.push({ title: 'denied: a rule forbids it', command: `${curl} ${plain}/admin/users` });
  const limited = ask('GET', `${plain}/limited`);
  const quota = limited?.quotas.find(({ limit }) => limit < callsMax);
  if (limited?.decision === 'Allow' && quota !== undefined)
    found.push({
      title: `throttled: the quota is ${quota.limit} in ${duration(quota.window_ms)}, one more call is refused`,
      command: `for i in ${Array.from({ length: quota.limit + 1 }, (_, index) => index + 1).join(' ')}; do ${curl} ${plain}/limited; echo; done`,
    });
  const held = ask('POST', `${plain}/orders`, order);
  const approver = held?.approvers[0];
  if (held?.decision === 'RequiresOversight' && approver !== undefined)
    found.push({
      title: `held until somebody approves it, in another window: ${commandLine('holds approve')} --by ${shellWord(approver)}`,
      command: `${curl} -X POST -d '${order.body}' -H 'content-type: application/json' ${plain}/orders`,
    });
  if (ask('GET', `${secure}/hello`)?.decision === 'Allow')
    found.push({
      title: 'HTTPS, whose method and path the policy sees',
      command: `${curl} --cacert ${shellWord(status.ca.file)} ${secure}/hello`,
    });
  return found;
}
