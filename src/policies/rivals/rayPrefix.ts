import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"
import { powerOfTwo } from "../placement/powerOfTwo.ts"

/** It never looks at load where a prefix matches: its imbalance threshold is infinite unless it is set. */
export const rayPrefix = definePlacement(
  {
    name: "ray-prefix",
    rival: "Ray Serve LLM's PrefixCacheAffinityRouter",
    summary:
      "What Ray Serve does: the longest match if a tenth of the prompt matches, else the less loaded of two random workers.",
    definition:
      "Where max − min in flight is at most `gap` and some worker holds at least `match` of the prompt, one of those that hold most, the " +
      "least loaded; else the less loaded of two random workers. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source: "ray 2.58 ray.llm serve request_router prefix_aware_router (wheel), read 2026-08",
    stability: "stable",
    family: "filtered",
    unit: "score",
    uses: ["prefixes"]
  },
  {
    match: {
      kind: "number",
      default: 0.1,
      minimum: 0,
      maximum: 1,
      summary: "Share of the prompt from which a match counts. Lower follows shorter prefixes."
    },
    gap: {
      kind: "integer",
      default: 2_147_483_647,
      minimum: 0,
      unit: "requests",
      summary:
        "Difference in requests beyond which prefixes are not looked at. The default never gives them up."
    }
  },
  ({ match, gap }, rng) => {
    const least = new LeastCost()
    const otherwise = powerOfTwo.make({}, rng)
    return {
      pick: (request, pool, nowMs) => {
        const { eligible, eligibleCount, workers } = pool
        const { inFlight } = workers
        const cached = pool.cachedTokens(request)
        let min = Number.POSITIVE_INFINITY
        let max = 0
        let longest = 0
        const key = requestState(request)
        least.start(key)
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const load = inFlight[worker]!
          min = Math.min(min, load)
          max = Math.max(max, load)
          if (cached[worker]! < longest) continue
          if (cached[worker]! > longest) least.start(key)
          longest = cached[worker]!
          least.offer(workers, worker, load)
        }
        const follows = longest > 0 && longest >= match * request.promptTokens && max - min <= gap
        return follows ? least.worker : otherwise.pick(request, pool, nowMs)
      }
    }
  }
)
