import { defineOrdering } from "../Ordering.ts"
import { KeyedQueues, oneQueue } from "../RequestQueues.ts"

/**
 * Two requests age alike, so who goes first of them never changes while they wait: `arrivedMs + class × aging` orders them as their ages
 * do, and no key is ever worked out again.
 */
export const priority = defineOrdering(
  {
    name: "priority",
    summary:
      "The most urgent class first, and within a class by arrival; who has waited long enough moves up.",
    definition:
      "Least arrivedMs + class × aging: a request of class c goes after one of class c − 1 that came less than aging after it, and before " +
      "one that came later. Ties go to the more urgent class, then to the one that arrived first; of requests equal in both, a requeued " +
      "one goes first, then the one enqueued first.",
    cost: "O(log N)",
    source: "priority aging; Silberschatz, Operating System Concepts",
    stability: "stable"
  },
  {
    aging: {
      kind: "duration",
      default: 30_000,
      minimum: 0,
      unit: "ms",
      summary:
        "Waiting that is worth one class. No request is overtaken by one that came later than class × aging after it. Larger is stricter; " +
        "0 is by arrival."
    }
  },
  ({ aging }) =>
    oneQueue(
      new KeyedQueues(
        1,
        (request) => request.arrivedMs + request.class * aging,
        (request) => request.class
      )
    )
)
