import { grow } from "../../structures/grow.ts"
import { SlotLists } from "../../structures/SlotLists.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { defineOrdering } from "../Ordering.ts"

/** The one list of this ordering. */
const QUEUE = 0

/**
 * A list sorted by arrival. A new request belongs at its end, a requeued one near its front and beside the one requeued before it, so
 * each is sorted in from there: O(1), but O(requeued requests) for those requeued out of order. 20 bytes for each slot up to the
 * largest seen.
 */
export const arrival = defineOrdering(
  {
    name: "arrival",
    summary: "First come, first served.",
    definition:
      "The queued request that arrived first. Of requests that arrived at the same time, a requeued one goes first, then the one " +
      "enqueued first.",
    cost: "O(1)",
    source: "FIFO",
    stability: "stable"
  },
  {},
  () => {
    const queue = new SlotLists(1)
    let arrivedMs = new Float64Array(0)
    let size = 0
    /** The slot requeued last, or -1 when it has left the queue. */
    let requeued = -1

    const insert = (behind: number, request: RequestView): void => {
      queue.insertAfter(QUEUE, behind, request.slot)
      if (request.slot >= arrivedMs.length)
        arrivedMs = grow(arrivedMs, request.slot, (length) => new Float64Array(length))
      arrivedMs[request.slot] = request.arrivedMs
      size++
    }

    const remove = (slot: number): boolean => {
      const queued = queue.remove(slot)
      if (queued) size--
      if (slot === requeued) requeued = -1
      return queued
    }

    return {
      enqueue: (request) => {
        let behind = queue.last(QUEUE)
        while (behind >= 0 && arrivedMs[behind]! > request.arrivedMs) behind = queue.before(behind)
        insert(behind, request)
      },
      requeue: (request) => {
        let behind = requeued
        while (behind >= 0 && arrivedMs[behind]! >= request.arrivedMs) behind = queue.before(behind)
        let ahead = behind < 0 ? queue.first(QUEUE) : queue.after(behind)
        while (ahead >= 0 && arrivedMs[ahead]! < request.arrivedMs) {
          behind = ahead
          ahead = queue.after(ahead)
        }
        insert(behind, request)
        requeued = request.slot
      },
      next: () => {
        const slot = queue.first(QUEUE)
        remove(slot)
        return slot
      },
      remove,
      size: () => size
    }
  }
)
