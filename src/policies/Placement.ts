import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry, type PolicyFacts } from "./Policy.ts"

/** Decides which worker serves a request. */
export interface Placement {
  /**
   * The slot of one of `pool.eligible`, or -1 exactly when there is none.
   * Pure but for the policy's own memory and its `Rng`; `nowMs` never decreases.
   */
  readonly pick: (request: RequestView, pool: PoolView, nowMs: number) => number
}

/**
 * How a policy decides; it says which laws hold for it. `argmin`: always a worker of least cost. `sampling`: looks at a random
 * sample of the workers. `sticky`: a key of the request decides. `rotating`: workers take turns.
 */
export type PlacementFamily = "argmin" | "sampling" | "sticky" | "rotating"

export interface PlacementFacts extends PolicyFacts {
  readonly family: PlacementFamily
}

export type PlacementEntry = PlacementFacts & PolicyEntry<Placement>

export const definePlacement = definer<Placement, PlacementFacts>()
