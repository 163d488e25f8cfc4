import type { RequestView } from "../domain/RequestView.ts"

/** Below 0 when `one` was placed before `other`, or at the same moment and has the lower id. */
export const comparePlaced = (one: RequestView, oneMs: number, other: RequestView, otherMs: number): number =>
  oneMs - otherMs || one.idHigh - other.idHigh || one.idLow - other.idLow
