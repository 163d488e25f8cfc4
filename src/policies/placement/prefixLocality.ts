import type { PoolView } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { grow, nones } from "../../structures/grow.ts"
import { mixBlock } from "../../structures/PrefixChain.ts"
import { sessionOrRequestState } from "../affinity.ts"
import { chunkOptions, CompletionCosts } from "../CompletionCosts.ts"
import { occupancyMs } from "../costs.ts"
import { leastOf } from "../leastOf.ts"
import { mostCached } from "../mostCached.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Sends a request to whoever holds most of its prompt, and asks of a load gap how many seconds it is worth. A prefix that is too hot for
 * its holders is computed once more elsewhere, and the holder it thereby gets is one of them from then on: no table of copies is kept.
 */
export const prefixLocality = definePlacement(
  {
    name: "prefix-locality",
    summary:
      "The worker that holds most of the prompt, unless another one is sooner by a set time; hot prefixes spread.",
    definition:
      "Least predicted TTFT + patience over all eligible workers, where patience is 0 for those that hold the most of the prompt. For the others it is " +
      "`patience` while the prefix that those hold has fewer than R copies on eligible workers, else `copyPatience`; R = ⌈rate · service / " +
      "utilization⌉, at least 1, with the rate of requests placed whose longest match this prefix was, averaged over about `window`, and the time this request " +
      "occupies the fastest holder. Ties go to the highest rendezvous score of (session or, without one, request id; worker " +
      "key). Held are blocks the worker reported or was sent before. Where nobody holds any, it is the least predicted TTFT.",
    cost: "O(N)",
    source:
      "prefix-aware routing with the load gap in seconds; replication of hot prefixes as in Preble (arXiv 2407.00023), with an explicit bound",
    stability: "stable",
    family: "argmin",
    unit: "seconds",
    uses: ["prefixes", "forecast"]
  },
  {
    patience: {
      kind: "duration",
      default: 200,
      minimum: 0,
      maximum: 3_600_000,
      unit: "ms",
      summary:
        "How much sooner the first token must come elsewhere for a request to leave the longest match. Larger values keep prefixes together " +
        "and let queues differ."
    },
    copyPatience: {
      kind: "duration",
      default: 2000,
      minimum: 0,
      maximum: 3_600_000,
      unit: "ms",
      summary:
        "The same where the prefix has as many copies as its rate calls for. Not less than patience to have an effect; larger values waste less " +
        "of the caches on copies and wait longer for a holder that others keep busy."
    },
    utilization: {
      kind: "number",
      default: 0.7,
      minimum: 0.01,
      maximum: 1,
      summary:
        "Share of their time that the holders of a prefix should spend on it. Smaller values allow more copies of it."
    },
    window: {
      kind: "duration",
      default: 10_000,
      minimum: 1,
      maximum: 86_400_000,
      unit: "ms",
      summary:
        "Time constant over which the rate of a prefix is averaged. Smaller values follow bursts; larger values remember them for longer."
    },
    ...chunkOptions
  },
  ({ patience, copyPatience, utilization, window, chunkTokens }) => {
    const costs = new CompletionCosts(chunkTokens)
    const rates = new PrefixRates(window)
    /** By request slot: the row of the prefix it matched when it was picked for, or -1. */
    let matched = new Int32Array(0)

    /** What it costs to leave those that hold `heldTokens` of the request, the most of all eligible workers. */
    const leavingMs = (
      request: RequestView,
      pool: PoolView,
      cachedTokens: Float64Array,
      heldTokens: number,
      nowMs: number
    ): number => {
      const { workers, eligible, eligibleCount, blockTokens, forecast } = pool
      const outputTokens = forecast.meanOutputTokens(request)
      let copies = 0
      let serviceMs = Number.POSITIVE_INFINITY
      for (let i = 0; i < eligibleCount; i++) {
        const worker = eligible[i]!
        if (cachedTokens[worker]! < heldTokens) continue
        copies++
        serviceMs = Math.min(
          serviceMs,
          occupancyMs(workers, worker, request.promptTokens, heldTokens, outputTokens)
        )
      }
      const perMs = rates.perMs(prefixRow(request, heldTokens, blockTokens), nowMs)
      return copies < (perMs * serviceMs) / utilization ? patience : copyPatience
    }

    return {
      pick: (request, pool, nowMs) => {
        const { workers, eligible, eligibleCount, forecast } = pool
        const costMs = costs.of(
          request,
          pool,
          eligible,
          eligibleCount,
          forecast.meanOutputTokens(request),
          nowMs
        )
        const cachedTokens = pool.cachedTokens(request)
        const heldTokens = costs.mostCached
        if (request.slot >= matched.length) matched = grow(matched, request.slot, nones)
        matched[request.slot] = heldTokens > 0 ? prefixRow(request, heldTokens, pool.blockTokens) : -1
        if (heldTokens > 0) {
          const leaving = leavingMs(request, pool, cachedTokens, heldTokens, nowMs)
          for (let i = 0; i < eligibleCount; i++) {
            const worker = eligible[i]!
            if (cachedTokens[worker]! < heldTokens) costMs[worker]! += leaving
          }
        }
        return leastOf(workers, eligible, eligibleCount, costMs, sessionOrRequestState(request))
      },
      placed: ({ slot }, _worker, _pool, nowMs) => {
        const row = matched[slot] ?? -1
        if (row < 0) return
        matched[slot] = -1
        rates.count(row, nowMs)
      },
      terms: (request, worker, pool, nowMs) => {
        const cachedTokens = pool.cachedTokens(request)
        const heldTokens = mostCached(pool.eligible, pool.eligibleCount, cachedTokens)
        const isAway = cachedTokens[worker]! < heldTokens
        const leaving = isAway ? leavingMs(request, pool, cachedTokens, heldTokens, nowMs) / 1000 : 0
        const { externality: _none, ...ttft } = costs.terms(
          request,
          pool,
          worker,
          pool.forecast.meanOutputTokens(request),
          nowMs
        )
        return { ...ttft, leaving }
      }
    }
  }
)

/** Rows of the table of rates; a power of two. */
const RATES = 4096

/** The row of the prefix that the first `heldTokens` > 0 of a request make. */
const prefixRow = ({ chain }: RequestView, heldTokens: number, blockTokens: number): number =>
  mixBlock(0, chain, Math.ceil(heldTokens / blockTokens) - 1) & (RATES - 1)

/** Arrivals per ms in each row, as averages that fade with a time constant. Prefixes that share a row seem hotter than they are. */
class PrefixRates {
  private readonly windowMs: number
  private readonly counts = new Float64Array(RATES)
  private readonly countedMs = new Float64Array(RATES)

  constructor(windowMs: number) {
    this.windowMs = windowMs
  }

  count(row: number, nowMs: number): void {
    this.counts[row] = 1 + this.perMs(row, nowMs) * this.windowMs
    this.countedMs[row] = nowMs
  }

  perMs(row: number, nowMs: number): number {
    return (this.counts[row]! * Math.exp((this.countedMs[row]! - nowMs) / this.windowMs)) / this.windowMs
  }
}
