/** Base-URL routes: the first path segment and the parsed upstream behind it. */
import type { Steps } from '../common/slices.ts';
import type { CompiledPolicy } from './compiled.ts';
import { parseHostPattern } from './host-pattern.ts';
import type { Compiler } from './rules.ts';

type Route = CompiledPolicy['routes'] extends ReadonlyMap<string, infer Value> ? Value : never;

export function* compileRoutes(compiler: Compiler): Steps<CompiledPolicy['routes']> {
  const routes = new Map<string, Route>();
  for (const [prefix, { upstream }] of Object.entries(compiler.parsed.policy.routes)) {
    yield;
    const url = URL.parse(upstream);
    const scheme = url?.protocol === 'http:' ? 'http' : 'https';
    const host = url === null ? undefined : parseHostPattern(url.hostname);
    if (url === null || host === undefined || !host.ok || host.value.wildcard) {
      compiler.report(['routes', prefix, 'upstream'], 'expected a URL with the name or address of one host');
      continue;
    }
    routes.set(prefix, {
      scheme,
      host: host.value.text,
      port: url.port === '' ? (scheme === 'http' ? 80 : 443) : Number(url.port),
      basePath: url.pathname.replace(/\/+$/, ''),
    });
  }
  return routes;
}
