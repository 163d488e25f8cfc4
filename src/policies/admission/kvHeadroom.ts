import { Reason } from "../../domain/Outcome.ts"
import type { PoolView } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { bytes, floats, grow } from "../../structures/grow.ts"
import { defineAdmission } from "../Admission.ts"
import { ceilingRule } from "../ceilings.ts"
import { roomMs } from "../costs.ts"
import { KvBatch } from "../KvBatch.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

/** Of a worker that nothing was placed on. */
const nobody = new KvBatch()

/**
 * Keeps workers from running out of KV space, where engines throw work away and compute it again.
 *
 * What was let in and is not placed is spread over the workers as if it were there. A worker with nothing takes any request: whether it
 * fits there alone is for the engine to say. Memory: 17 bytes a request slot, 53 bytes an attempt.
 */
export const kvHeadroom = defineAdmission(
  {
    name: "kv-headroom",
    summary:
      "Rejects what would not fit into any worker's KV cache beside the answers that are still to come there.",
    definition:
      "For each worker that may be picked: the most KV tokens that the requests placed there and this one will hold at one time, when " +
      "each produces a token a step until the quantile of its tenant's lengths; that is max over k of k·left_k + Σ_{i≤k} held_i, by " +
      "falling tokens left, with what was produced up to 10 ms ago. The prompts of those placed there are at most Σ prompt_i − shared of " +
      "it, for what several of them share is there once: shared is what those who have started there would hold beyond what the worker's " +
      "last heartbeat says is in use, less the prompt of each that went since; a heartbeat with fewer running than have started is " +
      "passed over. So requests that have not started there, and this one, count with whole prompts: what is cached and not in use takes " +
      "room as soon as it is. Only while an engine reads others in place of requests that it threw out, more than is shared may count " +
      "as shared, by what those held. Requests let in and not placed yet count with prompt and answer, in " +
      "equal parts at every such worker. Lets the request in when the sum is at most the KV size less the watermark at one worker, or " +
      "when one has nothing on it and nothing waits, or says no KV size, or when there is no such worker; else rejects with kv_full. " +
      `${ceilingRule} Retry-after is the shortest wait for KV space, ${retryAfterRule}. With n requests on a worker it costs ` +
      "O(log n), and O(n) once in 10 ms and after each that comes or goes.",
    cost: "O(N)",
    source: "ModelTC/lightllm, docs/EN/source/framework/router.rst; llm-d's priority ceilings",
    stability: "stable",
    uses: ["forecast"]
  },
  {
    quantile: {
      kind: "number",
      default: 0.9,
      minimum: 0,
      maximum: 1,
      summary:
        "Share of answers that are as long as expected, or shorter. Larger keeps more room for long answers; 1 the most seen."
    },
    watermark: {
      kind: "number",
      default: 0.05,
      minimum: 0,
      maximum: 0.9,
      summary:
        "Share of each KV cache that is left free, for answers that outgrow what was expected. Larger admits less."
    }
  },
  ({ quantile, watermark }, rng) => {
    const batches: Array<KvBatch | undefined> = []
    /** By slot: prompt and expected answer; the answer alone; live attempts. All 0 for a request nobody told of. */
    let sizes = new Float64Array(0)
    let answers = new Float64Array(0)
    let attempts = new Uint8Array(0)
    let waitingTokens = 0

    const know = (request: RequestView, pool: PoolView): void => {
      const { slot } = request
      if (slot >= sizes.length) {
        sizes = grow(sizes, slot, floats)
        answers = grow(answers, slot, floats)
        attempts = grow(attempts, slot, bytes)
      }
      if (sizes[slot]! > 0) return
      const outputTokens = Math.ceil(pool.forecast.outputTokens(request, quantile))
      answers[slot] = outputTokens
      sizes[slot] = request.promptTokens + outputTokens
      waitingTokens += sizes[slot]
    }

    return {
      decide: (request, pool, queue, nowMs) => {
        const { eligible, eligibleCount, decode, decodeCount, workers, forecast } = pool
        const count = eligibleCount + decodeCount
        if (count === 0) return null
        const { promptTokens } = request
        const outputTokens = Math.ceil(forecast.outputTokens(request, quantile))
        const usable = (1 - watermark) * queue.ceiling(request)
        const aheadTokens = waitingTokens / count
        let waitMs = Number.POSITIVE_INFINITY
        for (let i = 0; i < count; i++) {
          const worker = i < eligibleCount ? eligible[i]! : decode[i - eligibleCount]!
          const capacityTokens = workers.kvCapacityTokens[worker]!
          if (capacityTokens <= 0) return null
          if (waitingTokens === 0 && workers.inFlight[worker] === 0) return null
          const roomTokens = capacityTokens * usable - aheadTokens
          const batch = batches[worker] ?? nobody
          if (batch.fits(promptTokens, outputTokens, roomTokens, nowMs)) return null
          waitMs = Math.min(waitMs, roomMs(workers, worker, promptTokens, 0, outputTokens + aheadTokens))
        }
        return { reason: Reason.kvFull, retryAfterMs: retryAfterMs(waitMs, rng) }
      },
      admitted: know,
      placed: (request, worker, pool) => {
        const { slot } = request
        know(request, pool)
        if (attempts[slot]!++ === 0) waitingTokens -= sizes[slot]!
        ;(batches[worker] ??= new KvBatch()).add(request, answers[slot]!)
      },
      handedOver: (request, from, worker) => {
        batches[from]!.remove(request.slot)
        ;(batches[worker] ??= new KvBatch()).add(request, answers[request.slot]!)
      },
      started: ({ slot }, worker) => batches[worker]?.started(slot),
      observed: (worker, { workers }) =>
        batches[worker]?.observed(workers.running[worker]!, workers.kvUsedTokens[worker]!),
      released: ({ slot }, worker) => {
        if (batches[worker]?.remove(slot) !== true) return
        if (--attempts[slot]! === 0) waitingTokens += sizes[slot]!
      },
      ended: ({ slot }) => {
        if (slot >= sizes.length || attempts[slot] !== 0) return
        waitingTokens -= sizes[slot]!
        sizes[slot] = 0
      }
    }
  }
)
