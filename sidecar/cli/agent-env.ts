/** The environment of an agent: the proxy and our authority, in every spelling that programs read; nothing of ours else. */
import type { Status } from '../status.ts';

/**
 * Variables through which the caller's own process would be steered, or that only the operator may have. npm gives
 * its whole configuration to what it starts, registry tokens and proxies of its own among it; an agent's npm reads
 * that of the agent.
 */
const withheld = /^(SALLYPORT_|npm_|NPM_CONFIG_|INIT_CWD$|SUDO_|SSH_AUTH_SOCK$|DBUS_|XDG_RUNTIME_DIR$)/;

export function agentEnvironment(
  status: Pick<Status, 'data_plane' | 'ca'>,
  base: Readonly<Record<string, string | undefined>>,
  own: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(base)) {
    if (value !== undefined && !withheld.test(name)) env[name] = value;
  }
  const { proxy } = status.data_plane;
  for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY']) {
    env[name] = proxy;
    env[name.toLowerCase()] = proxy;
  }
  return {
    ...env,
    NO_PROXY: '',
    no_proxy: '',
    // Node: fetch and http(s) go by the variables (24 and later); our authority beside its own.
    NODE_USE_ENV_PROXY: '1',
    NODE_EXTRA_CA_CERTS: status.ca.file,
    // OpenSSL, Go, Python's ssl.
    SSL_CERT_FILE: status.ca.bundle,
    SSL_CERT_DIR: status.ca.dir,
    CURL_CA_BUNDLE: status.ca.bundle,
    REQUESTS_CA_BUNDLE: status.ca.bundle,
    PIP_CERT: status.ca.bundle,
    GIT_SSL_CAINFO: status.ca.bundle,
    AWS_CA_BUNDLE: status.ca.bundle,
    DENO_CERT: status.ca.bundle,
    CARGO_HTTP_CAINFO: status.ca.bundle,
    GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: status.ca.bundle,
    ...own,
  };
}
