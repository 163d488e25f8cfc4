import { priceOptions } from "../demand.ts"
import { defineOrdering } from "../Ordering.ts"
import { oneQueue } from "../RequestQueues.ts"
import { shortestOptions, shortestQueues } from "../shortestQueues.ts"

export const shortestJob = defineOrdering(
  {
    name: "shortest-job",
    summary:
      "The request that is expected to take least, less what it has waited: the lowest mean wait for a mix of lengths.",
    definition:
      "The most urgent class first; within it least cost − aging × seconds waited, where cost = inputPrice × prompt tokens that no worker " +
      "holds + outputPrice × the quantile outputQuantile of the tenant's answers, both as known when it was queued. So one request is " +
      "overtaken only by those of its class that cost less and came less than the difference ÷ aging seconds after it. Ties go to the one " +
      "that arrived first; of requests equal in that too, a requeued one goes first, then the one enqueued first. A class waits for all " +
      "more urgent ones.",
    cost: "O(log N)",
    source:
      "shortest job first; vllm-ltr for ranking by predicted length, with its starvation guard as aging",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  { ...priceOptions, ...shortestOptions },
  (options) => oneQueue(shortestQueues(1, options))
)
