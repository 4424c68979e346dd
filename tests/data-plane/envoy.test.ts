import { startEnvoyPlane } from '../../envoy/plane.ts';
import { envoyBinary } from '../support/envoy.ts';
import { describeDataPlane } from './suite.ts';

describeDataPlane('the Envoy', async (deps) =>
  startEnvoyPlane({
    ...deps,
    settings: { ...deps.settings, envoy: { ...deps.settings.envoy, binary: await envoyBinary() } },
  }),
);
