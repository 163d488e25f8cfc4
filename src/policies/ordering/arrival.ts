import { defineOrdering } from "../Ordering.ts"
import { ArrivalQueues, oneQueue } from "../RequestQueues.ts"

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
  () => oneQueue(new ArrivalQueues(1))
)
