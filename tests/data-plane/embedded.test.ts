import { startEmbeddedPlane } from '../../sidecar/embedded/plane.ts';
import { describeDataPlane } from './suite.ts';

describeDataPlane('the embedded', startEmbeddedPlane);
