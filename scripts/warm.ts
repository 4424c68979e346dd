/**
 * Fills Node's compile cache with the sidecar's sources, as the sidecar is started: from then on no start strips
 * types, and the stripper's 17 MiB are not loaded. Run once, after the packages were installed.
 */
import { relaunchSmall } from '../sidecar/cli/relaunch.ts';

relaunchSmall();
await Promise.all([
  import('../sidecar/cli/commands/run.ts'),
  import('../sidecar/cli/commands/start.ts'),
  import('../sidecar/main.ts'),
  import('../sidecar/admin/app.ts'),
  import('../sidecar/embedded/plane.ts'),
  import('../envoy/plane.ts'),
]);
process.argv.splice(2, Infinity, '--version');
await import('../sidecar/cli/main.ts');
