import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { requestState } from "./affinity.ts"
import { ttftMs, waitMs } from "./costs.ts"
import { LeastCost } from "./LeastCost.ts"

const least = new LeastCost()
const found = { worker: -1, ttftMs: Number.POSITIVE_INFINITY }

/**
 * The eligible worker other than `worker` that is predicted to start the request soonest, and when; -1 and Infinity where there is none.
 * The result is reused by the next call. O(N).
 */
export const soonestElsewhere = (
  request: RequestView,
  worker: number,
  pool: PoolView,
  nowMs: number
): { readonly worker: number; readonly ttftMs: number } => {
  const { eligible, eligibleCount, forecast, workers } = pool
  const cached = pool.cachedTokens(request)
  const outputTokens = forecast.meanOutputTokens(request)
  least.start(requestState(request))
  for (let i = 0; i < eligibleCount; i++) {
    const other = eligible[i]!
    if (other === worker) continue
    const firstMs = ttftMs(workers, other, request.promptTokens, cached[other]!, outputTokens, nowMs)
    least.offer(workers, other, firstMs)
  }
  found.worker = least.worker
  found.ttftMs = least.cost
  return found
}

/** No eligible worker is predicted to start anything sooner; Infinity where there is none. O(N), and much less than to ask for each request. */
export const soonestMs = ({ eligible, eligibleCount, workers }: PoolView, nowMs: number): number => {
  let soonest = Number.POSITIVE_INFINITY
  for (let i = 0; i < eligibleCount; i++) soonest = Math.min(soonest, waitMs(workers, eligible[i]!, nowMs))
  return soonest
}
