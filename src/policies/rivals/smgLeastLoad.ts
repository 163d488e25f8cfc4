import { floats, grow } from "../../structures/grow.ts"
import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/** The best closed form for load that a peer has published: seconds of queued work, and a barrier that grows as the KV cache fills. */
export const smgLeastLoad = definePlacement(
  {
    name: "smg-least-load",
    rival: "SMG's least_load",
    summary:
      "What SMG's least_load does: least queued work in seconds, with a barrier as the KV cache fills; blind to prefixes.",
    definition:
      "Least (queued tokens + tokens sent since the last heartbeat) / throughput + barrier · k / (1 − k), with k the KV cache in use, " +
      "below 0.99. Queued are the waiting requests of the last heartbeat times `meanPrompt`; what was sent is forgotten at each heartbeat. " +
      "Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source: "lightseekorg/smg model_gateway/src/policies/least_load.rs, read 2026-08",
    stability: "stable",
    family: "filtered",
    unit: "seconds"
  },
  {
    throughput: {
      kind: "number",
      default: 2000,
      minimum: 1,
      unit: "tokens/s",
      summary:
        "Prompt tokens a worker computes in a second, where it does not say. Higher counts queued work for less."
    },
    meanPrompt: {
      kind: "integer",
      default: 1024,
      minimum: 1,
      unit: "tokens",
      summary: "Prompt tokens of a waiting request. Higher counts queues for more."
    },
    barrier: {
      kind: "number",
      default: 0.15,
      minimum: 0,
      unit: "seconds",
      summary: "Weight of the KV term. Higher avoids full caches sooner."
    }
  },
  ({ throughput, meanPrompt, barrier }) => {
    const least = new LeastCost()
    let sent = new Float64Array(0)
    return {
      pick: (request, { eligible, eligibleCount, workers }) => {
        const { kvCapacityTokens, kvUsedTokens, waiting } = workers
        if (sent.length < waiting.length) sent = grow(sent, waiting.length - 1, floats)
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const capacity = kvCapacityTokens[worker]!
          const k = capacity > 0 ? Math.min(0.99, kvUsedTokens[worker]! / capacity) : 0
          const tokens = waiting[worker]! * meanPrompt + sent[worker]!
          least.offer(workers, worker, tokens / throughput + (barrier * k) / (1 - k))
        }
        return least.worker
      },
      placed: ({ promptTokens }, worker) => {
        if (worker < sent.length) sent[worker]! += promptTokens
      },
      observed: (worker) => {
        if (worker < sent.length) sent[worker] = 0
      }
    }
  }
)
