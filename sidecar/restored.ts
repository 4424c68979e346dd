/** Left by `sallyport restore` for the next start: the log goes on from a backup, and what came after it is not there. */
import path from 'node:path';

export const restoredFile = (stateDir: string): string => path.join(stateDir, 'restored.json');
