/** The first screen: what runs, where, and lines to paste. */
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import type { CommandLine } from '../invocation.ts';
import type { Status } from '../status.ts';
import { type Demo, demoHost } from './demo.ts';
import { table } from './output.ts';
import type { Sample } from './samples.ts';

export type FirstScreen = Readonly<{
  status: Pick<Status, 'version' | 'data_plane' | 'admin' | 'state_dir' | 'ca'> &
    Readonly<{ policy: Pick<Status['policy'], 'file' | 'version'> }>;
  demo: Pick<Demo, 'http' | 'https'> | undefined;
  samples: readonly Sample[];
  commandLine: CommandLine;
  /** Said where a call from this user would be denied as unknown; else empty. */
  agentNote: string;
}>;

export function firstScreen({
  status,
  demo,
  samples,
  commandLine,
  agentNote,
}: FirstScreen): readonly string[] {
  const plane = status.data_plane.kind === 'envoy' ? 'Envoy' : 'embedded';
  const facts = table([
    ['data plane', `${plane}: ${status.data_plane.reason}`],
    ['proxy', status.data_plane.proxy],
    ...(status.data_plane.proxy_tls === undefined ? [] : [['proxy (mTLS)', status.data_plane.proxy_tls]]),
    ['admin', [status.admin.socket, status.admin.url].filter((part) => part !== undefined).join(' and ')],
    ['policy', `${status.policy.file} (version ${status.policy.version})`],
    ['state', status.state_dir],
    ['CA', status.ca.file],
    ...(demo === undefined
      ? []
      : [['upstreams', `http://${demoHost}:${demo.http} and https://${demoHost}:${demo.https} (examples)`]]),
  ]).map((line) => `  ${line}`);
  const lines = [`Sallyport ${status.version} is ready.`, '', ...facts, ''];
  if (agentNote !== '') lines.push(`  ${agentNote}`, '');
  if (demo !== undefined && samples.length === 0 && agentNote === '')
    lines.push(
      '  No lines to paste: the policy decides the calls of the examples at these ports in other ways.',
      '',
    );
  if (samples.length > 0) {
    lines.push('Paste these into another window:', '');
    samples.forEach((sample, index) => {
      lines.push(`  # ${index + 1}. ${sample.title}`, `  ${sample.command}`, '');
    });
  }
  lines.push(`Your own agent: ${commandLine('run')} -- CMD …      Ctrl-C ends the sidecar.`, '');
  return lines;
}

/** The agent that a call of this user is, over a connection that no credential or certificate names. */
export function agentOfUser(policy: CompiledPolicy, podAgent: string): string | undefined {
  const uid = process.getuid?.();
  const byUser = uid === undefined ? undefined : policy.agentByUser(uid)?.name;
  return byUser ?? policy.agent(podAgent)?.name;
}

/** Whoever pastes lines calls as their own user, whom the policy has to know. */
export function noteFor(agent: string | undefined, podAgent: string): string {
  if (agent !== undefined) return '';
  const user = `no agent of the policy has your user (${process.getuid?.() ?? '?'})`;
  const pod = podAgent === '' ? '' : `, nor is ${podAgent} (identity.pod_agent) one`;
  return `Note: ${user}${pod}; calls of yours are denied until one has, or a credential is sent.`;
}
