import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry, type PolicyEvents, type PolicyFacts } from "./Policy.ts"

/** The requests of a pool that were placed, and may be acted on. */
export interface PlacedView {
  /**
   * Calls `visit` with every request that has one attempt, no token, and may be sent to another worker, those first that were placed
   * first. Acting on it during the visit is allowed.
   */
  readonly unstarted: (visit: (request: RequestView, worker: number, placedMs: number) => void) => void
  /** Calls `visit` with every request that streams, those first that started first. */
  readonly streaming: (visit: (request: RequestView, worker: number, placedMs: number) => void) => void
}

/** What a rescue may do. Each returns whether it was done; a request that has started meanwhile is left alone. */
export interface RescueActions {
  /**
   * Sends a second copy to `worker`; the first of the two to start cancels the other. Refused also where the request has no attempt left,
   * the model's retry budget is used up, or the worker has just failed it.
   */
  readonly hedge: (slot: number, worker: number) => boolean
  /** Takes an unstarted request from its worker and gives it to `worker`. */
  readonly move: (slot: number, worker: number) => boolean
  /** Takes an unstarted request from its worker and puts it back into the queue. */
  readonly requeue: (slot: number) => boolean
  /** Moves a streaming request with its KV cache, where the engines can; false where they cannot. */
  readonly migrate: (slot: number, worker: number) => boolean
}

/** Acts on what is already placed. */
export interface Rescue extends PolicyEvents {
  /** Called every few milliseconds while something is placed. Bounded: at most `ACTIONS_MAX` actions a call. */
  readonly review: (pool: PoolView, placed: PlacedView, actions: RescueActions, nowMs: number) => void
}

export const ACTIONS_MAX = 64

export interface RescueFacts extends PolicyFacts {
  /** The one action it takes. */
  readonly action: keyof RescueActions
}

export type RescueEntry = RescueFacts & PolicyEntry<Rescue>

export const defineRescue = definer<Rescue, RescueFacts>()
