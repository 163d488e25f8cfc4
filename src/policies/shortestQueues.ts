import { expectedCost } from "./demand.ts"
import type { OptionSpecs, OptionValues } from "./Policy.ts"
import { KeyedQueues } from "./RequestQueues.ts"

/** What makes a request short, and what its waiting is worth. */
export const shortestOptions = {
  outputQuantile: {
    kind: "number",
    default: 0.5,
    minimum: 0,
    maximum: 1,
    unit: "share of requests",
    summary:
      "The answer is taken to be as long as this share of the tenant's answers stays below. Larger puts tenants with some long answers behind."
  },
  aging: {
    kind: "number",
    default: 2000,
    minimum: 0.001,
    maximum: 1_000_000_000,
    unit: "tokens per second of waiting",
    summary:
      "Expected cost that a second of waiting makes up for. No request is overtaken by one that came later than its cost ÷ aging seconds " +
      "after it. Larger is nearer to arrival order; the default lets 20,000 tokens wait 10 s."
  }
} as const satisfies OptionSpecs

type ShortestOptions = OptionValues<typeof shortestOptions> & {
  readonly inputPrice: number
  readonly outputPrice: number
}

/**
 * Queues that serve the most urgent class first, and within it least expected cost − aging × seconds waited. All wait at the same rate,
 * so cost + aging × seconds of arrival orders them alike, and stands while they wait.
 */
export const shortestQueues = (count: number, options: ShortestOptions): KeyedQueues => {
  const agingPerMs = options.aging / 1000
  return new KeyedQueues(
    count,
    (request) => request.class,
    (request, pool) =>
      expectedCost(request, pool, options, pool.forecast.outputTokens(request, options.outputQuantile)) +
      agingPerMs * request.arrivedMs
  )
}
