/** The lease filter (`lease.lua`): the text with its limits in front. Disabled but where a route enables it. */
import { readFileSync } from 'node:fs';
import { limits } from '../config/limits.ts';
import { clusterName } from './clusters.ts';
import { any, extension, type JsonObject } from './json.ts';

export const leaseFilterName = 'sallyport.lease';

/** Numbers and plain names only: nothing of it comes from a caller or a policy. */
const config: Readonly<Record<string, string | number>> = {
  cluster: clusterName.lease,
  timeoutMs: limits.leaseAskTimeoutMs,
  quietMs: limits.leaseQuietMs,
  heatMs: limits.leaseHeatMs,
  missesMin: limits.leaseMissesMin,
  renewMs: limits.leaseRenewMs,
  shortcutsMax: limits.leaseShortcutsMax,
  peersMax: limits.leasePeersMax,
  classesMax: limits.leaseClassesMax,
  regionsMax: limits.leaseRegionsMax,
  heatsMax: limits.leaseHeatsMax,
  textBytesMax: limits.leaseTextBytesMax,
  reportsMax: limits.leaseReportsMax,
  pathBytesMax: limits.pathBytesMax,
};

const table = Object.entries(config)
  .map(([key, value]) => `${key} = ${JSON.stringify(value)}`)
  .join(', ');

/** What Envoy is given: the limits, and the filter. */
export const leaseFilterText = `local config = { ${table} }\n${readFileSync(new URL('lease.lua', import.meta.url), 'utf8')}`;

export const leaseFilter: JsonObject = {
  ...extension(leaseFilterName, 'envoy.extensions.filters.http.lua.v3.Lua', {
    default_source_code: { inline_string: leaseFilterText },
  }),
  disabled: true,
};

/** Enables the filter on a route and tells it what the sidecar has to know of the route. */
export const leased = (context: Readonly<Record<string, string>>): JsonObject =>
  any('envoy.extensions.filters.http.lua.v3.LuaPerRoute', { filter_context: context });
