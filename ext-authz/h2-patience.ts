/** How much a peer may send on one HTTP/2 connection that brings no request. Past it the connection is ended. */
import { limits } from '../config/limits.ts';
import { connectionError } from './h2-frames.ts';

export class Patience {
  private idleFrames = 0;
  private settingsFrames = 0;

  /** A frame that brings no request. */
  idle(): void {
    this.idleFrames += 1;
    if (this.idleFrames > limits.checkIdleFramesMax)
      throw connectionError('ENHANCE_YOUR_CALM', 'too many frames that bring no request');
  }

  settings(): void {
    this.settingsFrames += 1;
    if (this.settingsFrames > limits.checkSettingsFramesMax)
      throw connectionError('ENHANCE_YOUR_CALM', 'the settings change too often');
  }

  /** A request has come whole: its windows, and that it is given up, are no idle frames. */
  request(): void {
    this.idleFrames = Math.max(0, this.idleFrames - limits.checkIdleFramesPerRequestMax);
  }

  /** Time has passed. */
  renew(): void {
    this.idleFrames = 0;
  }
}
