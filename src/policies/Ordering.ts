import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry } from "./Policy.ts"

/** The queue of one pool: decides which admitted request is placed next. */
export interface Ordering {
  /** Adds a request; its slot must not be queued already. */
  readonly enqueue: (request: RequestView, nowMs: number) => void
  /** Puts a request back whose attempt was lost before its first token: it goes before all that came after it. */
  readonly requeue: (request: RequestView, nowMs: number) => void
  /** Removes and returns the slot of the next request, or -1 when the queue is empty. */
  readonly next: (nowMs: number) => number
  /** Takes a slot out (cancelled, expired, evicted); false when it was not queued. */
  readonly remove: (slot: number) => boolean
  readonly size: () => number
}

export type OrderingEntry = PolicyEntry<Ordering>

export const defineOrdering = definer<Ordering>()
