import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry, type PolicyEvents } from "./Policy.ts"

/** The queue of one pool: decides which admitted request is placed next. It may keep the object of a request while that is queued. */
export interface Ordering extends PolicyEvents {
  /** Adds a request; its slot must not be queued already. */
  readonly enqueue: (request: RequestView, pool: PoolView, nowMs: number) => void
  /** Puts a request back that has been placed and did not start. By arrival it goes before all that came after it. */
  readonly requeue: (request: RequestView, pool: PoolView, nowMs: number) => void
  /** Removes and returns the slot of the next request, or -1 when the queue is empty. */
  readonly next: (pool: PoolView, nowMs: number) => number
  /** Takes a slot out (cancelled, expired, evicted); false when it was not queued. */
  readonly remove: (slot: number) => boolean
  readonly size: () => number
}

export type OrderingEntry = PolicyEntry<Ordering>

export const defineOrdering = definer<Ordering>()
