/** The first screen: what runs, where, and five lines to paste. */
import type { Status } from '../status.ts';
import { type Demo, demoHost } from './demo.ts';
import { table } from './output.ts';

export type FirstScreen = Readonly<{
  status: Status;
  demo: Demo | undefined;
  /** The words that start this command line: `sallyport`, or `npm start --`. */
  program: string;
  /** Options that lead another call to this sidecar: ` --state-dir DIR`, or empty. */
  where: string;
  /** A member of the approvers, for the line that approves. */
  approver: string;
  /** `name:password@` where the policy knows the caller by credential; empty where by user. */
  credential: string;
  /** Said where a call from this user would be denied as unknown; else empty. */
  agentNote: string;
}>;

/** A word for a POSIX shell, quoted only where it has to be. */
export const shellWord = (word: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

export type Sample = Readonly<{ title: string; command: string }>;

export function samples(screen: FirstScreen): readonly Sample[] {
  const { demo, status, program } = screen;
  if (demo === undefined) return [];
  const proxy = new URL(status.data_plane.proxy);
  const curl = `curl -sS -x ${shellWord(`http://${screen.credential}${proxy.host}`)}`;
  const plain = `http://${demoHost}:${demo.http}`;
  return [
    { title: 'allowed', command: `${curl} ${plain}/hello` },
    { title: 'denied: a rule forbids it', command: `${curl} ${plain}/admin/users` },
    {
      title: 'throttled: the quota is 3 a minute, the fourth call is refused',
      command: `for i in 1 2 3 4; do ${curl} ${plain}/limited; echo; done`,
    },
    {
      title: `held until somebody approves it, in another window: ${program} holds approve${screen.where} --by ${shellWord(screen.approver)}`,
      command: `${curl} -X POST -d '{"item":"book"}' -H 'content-type: application/json' ${plain}/orders`,
    },
    {
      title: 'HTTPS, whose method and path the policy sees',
      command: `${curl} --cacert ${shellWord(status.ca.file)} https://${demoHost}:${demo.https}/hello`,
    },
  ];
}

export function firstScreen(screen: FirstScreen): readonly string[] {
  const { status, demo, program } = screen;
  const plane = status.data_plane.kind === 'envoy' ? 'Envoy' : 'embedded';
  const facts = table([
    ['data plane', `${plane}: ${status.data_plane.reason}`],
    ['proxy', status.data_plane.proxy],
    ...(status.data_plane.proxy_tls === undefined ? [] : [['proxy (mTLS)', status.data_plane.proxy_tls]]),
    ['admin', [status.admin.socket, status.admin.url].filter((part) => part !== undefined).join(' and ')],
    ['policy', `${status.policy.file} (version ${status.policy.version})`],
    ['CA', status.ca.file],
  ]).map((line) => `  ${line}`);
  const lines = [`Sallyport ${status.version} is ready.`, '', ...facts];
  if (screen.agentNote !== '') lines.push('', `  ${screen.agentNote}`);
  if (demo === undefined)
    return [
      ...lines,
      '',
      `  Run an agent behind it: ${program} run${screen.where} -- CMD …`,
      '',
      '  Ctrl-C ends it.',
      '',
    ];
  lines.push('', 'Paste these into another window:', '');
  samples(screen).forEach((sample, index) => {
    lines.push(`  # ${index + 1}. ${sample.title}`, `  ${sample.command}`, '');
  });
  lines.push(`Your own agent: ${program} run${screen.where} -- CMD …      Ctrl-C ends it.`, '');
  return lines;
}
