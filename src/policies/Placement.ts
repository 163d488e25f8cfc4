import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry, type PolicyEvents, type PolicyFacts } from "./Policy.ts"

/** Decides which worker serves a request. */
export interface Placement extends PolicyEvents {
  /**
   * The slot of one of `pool.eligible`, or -1 exactly when there is none.
   * Pure but for the policy's own memory and its `Rng`; `nowMs` never decreases.
   */
  readonly pick: (request: RequestView, pool: PoolView, nowMs: number) => number
  /**
   * Picks for several requests at once, in their order: `picked[i]` is the worker of `requests[i]`, or -1 where it stays queued for
   * want of room. Left out, they are picked for one by one.
   */
  readonly pickBatch?: (
    requests: ReadonlyArray<RequestView>,
    pool: PoolView,
    nowMs: number,
    picked: Int32Array
  ) => void
  /**
   * Asked after `pick`: the worker of `pool.decode` that produces the tokens once the picked worker, one of `pool.prefill`, has read the
   * prompt; -1 when the picked worker does both. With it `pick` may answer from `pool.prefill` too.
   */
  readonly decodeOn?: () => number
  /**
   * The terms of the cost of one candidate, by name. Where a policy has it, `pick` takes one of least sum of those it compared. In seconds where
   * `PlacementFacts.unit` does not say otherwise.
   */
  readonly terms?: (
    request: RequestView,
    worker: number,
    pool: PoolView,
    nowMs: number
  ) => Readonly<Record<string, number>>
  /**
   * Asked after `pick`: whether that compared `worker`, which it may pick, with others. Left out: all of them, or nobody can tell. It changes
   * nothing.
   */
  readonly compared?: (worker: number, pool: PoolView) => boolean
}

/**
 * How a policy decides; it says which laws hold for it. `argmin`: always a worker of least cost, in a large pool of those it compares.
 * `sampling`: looks at a random sample of the workers. `sticky`: a key of the request decides. `rotating`: workers take turns. `filtered`:
 * a rule first narrows the workers down, then the least cost among those left decides.
 */
export type PlacementFamily = "argmin" | "sampling" | "sticky" | "rotating" | "filtered"

export interface PlacementFacts extends PolicyFacts {
  readonly family: PlacementFamily
  /** What it compares workers by; seconds where nothing is said. */
  readonly unit?: "seconds" | "requests" | "tokens" | "score"
  /** The product this is a re-implementation of, from its public description. */
  readonly rival?: string
}

export type PlacementEntry = PlacementFacts & PolicyEntry<Placement>

export const definePlacement = definer<Placement, PlacementFacts>()
