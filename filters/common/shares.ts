/** A limit of its own for each owner, so that one of them does not use up what all share. */
export type Shares = Readonly<{
  /** Takes one of the owner's places and tells how to give it back, once; undefined where all are taken. */
  take(owner: string): (() => void) | undefined;
}>;

export function createShares(eachMax: number): Shares {
  const taken = new Map<string, number>();
  return {
    take: (owner) => {
      const now = taken.get(owner) ?? 0;
      if (now >= eachMax) return undefined;
      taken.set(owner, now + 1);
      let given = false;
      return () => {
        if (given) return;
        given = true;
        const left = (taken.get(owner) ?? 0) - 1;
        if (left > 0) taken.set(owner, left);
        else taken.delete(owner);
      };
    },
  };
}
