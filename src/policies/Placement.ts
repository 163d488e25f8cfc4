import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"

/** Decides which worker serves a request. */
export interface Placement {
  /**
   * The slot of one of `pool.eligible`, or -1 exactly when there is none.
   * Pure but for the policy's own memory and its `Rng`; `nowMs` never decreases.
   */
  readonly pick: (request: RequestView, pool: PoolView, nowMs: number) => number
}
