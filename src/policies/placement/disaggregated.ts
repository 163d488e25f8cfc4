import type { PoolView, WorkerColumns } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { sessionOrRequestState } from "../affinity.ts"
import { chunkOptions, CompletionCosts } from "../CompletionCosts.ts"
import { decodeMs, occupancyMs, roomMs } from "../costs.ts"
import { isEligible } from "../eligibility.ts"
import { LeastCost } from "../LeastCost.ts"
import { leastOf } from "../leastOf.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Splits a request only where that is predicted to pay: handing over a KV cache costs as much as computing a good part of it, and a
 * cached or short prompt disturbs nobody where it is answered.
 */
export const disaggregated = definePlacement(
  {
    name: "disaggregated",
    summary:
      "Long uncached prompts are read by workers that only read, answered by workers that only answer, when that is sooner.",
    definition:
      "Locally: least TTFT, as in predicted-completion, + externality · requests in flight × (own prefill + what the expected answer adds to " +
      "their steps) over the workers that do both. Split: least TTFT over the prefill " +
      "workers, for the prompt and one token, + over the decode workers least transfer + KV wait + externality · requests in flight × what the " +
      "answer adds to their steps; the transfer is (prompt − tokens held there) · kvBytesPerToken at `bandwidth`. A request is split when at the local worker " +
      "`threshold` tokens or more are not cached, and the split sum is the smaller one; or when no worker that does both is eligible. Never " +
      "without an eligible worker of either role. Ties go to the highest rendezvous score of (session or, without one, request id; worker key), and a tie of the " +
      "sums stays local.",
    cost: "O(N)",
    source:
      "llm-d prefix-based-pd-decider (llm-d-router docs/disaggregation.md), with the comparison in seconds; DistServe, OSDI 2024",
    stability: "experimental",
    family: "filtered",
    unit: "seconds",
    uses: ["prefixes", "forecast"]
  },
  {
    threshold: {
      kind: "integer",
      default: 2048,
      minimum: 1,
      maximum: 10_000_000,
      unit: "tokens",
      summary:
        "Least uncached tokens of a prompt that is split. Larger values keep more requests whole; smaller ones trust the prediction more."
    },
    kvBytesPerToken: {
      kind: "integer",
      default: 262_144,
      minimum: 1,
      maximum: 2 ** 30,
      unit: "bytes",
      summary:
        "Size of the KV cache of one token: 2 · layers · KV heads · head size · bytes per number. 131,072 of Llama 3 8B, 262,144 of " +
        "Qwen3 32B, 327,680 of Llama 3 70B. Larger values split less."
    },
    bandwidth: {
      kind: "number",
      default: 100,
      minimum: 0.001,
      maximum: 1_000_000,
      unit: "Gbit/s",
      summary:
        "What one hand-over gets of the network between prefill and decode workers. Larger values split more."
    },
    externality: {
      kind: "number",
      default: 0.25,
      minimum: 0,
      maximum: 1,
      summary:
        "Weight of the delay inflicted on others, here and there. Larger values split more where decodes are busy."
    },
    ...chunkOptions
  },
  ({ threshold, kvBytesPerToken, bandwidth, externality, chunkTokens }) => {
    const writer = new LeastCost()
    const costs = new CompletionCosts(chunkTokens)
    /** Of the worker that was picked last to do all of a request, and of the one to read its prompt: Infinity where there was none. */
    let localMs = Number.POSITIVE_INFINITY
    let readerMs = Number.POSITIVE_INFINITY
    /** 10⁹ bits a second are 125 000 bytes in a millisecond. */
    const transferTokenMs = kvBytesPerToken / (bandwidth * 125_000)
    let decodeWorker = -1
    /** Whether it was weighed whether to split. */
    let weighed = false

    const pickLocal = (request: RequestView, pool: PoolView, nowMs: number): number => {
      const { workers, eligible, eligibleCount } = pool
      const { promptTokens } = request
      const outputTokens = pool.forecast.meanOutputTokens(request)
      const costMs = costs.of(request, pool, eligible, eligibleCount, outputTokens, nowMs)
      const cachedTokens = pool.cachedTokens(request)
      for (let i = 0; i < eligibleCount; i++) {
        const worker = eligible[i]!
        const othersMs = wholeMs(workers, worker, promptTokens, cachedTokens[worker]!, outputTokens)
        costMs[worker]! += externality * othersMs
      }
      const local = leastOf(workers, eligible, eligibleCount, costMs, sessionOrRequestState(request))
      localMs = costMs[local] ?? Number.POSITIVE_INFINITY
      return local
    }

    const pickReader = (request: RequestView, pool: PoolView, nowMs: number): number => {
      const { workers, prefill, prefillCount } = pool
      const costMs = costs.of(request, pool, prefill, prefillCount, 1, nowMs)
      const reader = leastOf(workers, prefill, prefillCount, costMs, sessionOrRequestState(request))
      readerMs = costMs[reader] ?? Number.POSITIVE_INFINITY
      return reader
    }

    const pickWriter = (request: RequestView, pool: PoolView): void => {
      const { workers, decode, decodeCount } = pool
      const { promptTokens } = request
      const cachedTokens = pool.cachedTokens(request)
      const outputTokens = pool.forecast.meanOutputTokens(request)
      writer.start(sessionOrRequestState(request))
      for (let i = 0; i < decodeCount; i++) {
        const worker = decode[i]!
        const transferMs = transferTokenMs * (promptTokens - cachedTokens[worker]!)
        const longerMs = workers.inFlight[worker]! * decodeMs(workers, worker, promptTokens, outputTokens)
        writer.offer(
          workers,
          worker,
          transferMs +
            roomMs(workers, worker, promptTokens, cachedTokens[worker]!, outputTokens) +
            externality * longerMs
        )
      }
    }

    const localTerms = (request: RequestView, worker: number, pool: PoolView, nowMs: number) => {
      const { promptTokens } = request
      const outputTokens = pool.forecast.meanOutputTokens(request)
      const cached = pool.cachedTokens(request)[worker]!
      const othersMs = wholeMs(pool.workers, worker, promptTokens, cached, outputTokens)
      return {
        ...costs.terms(request, pool, worker, outputTokens, nowMs),
        externality: (externality * othersMs) / 1000
      }
    }

    return {
      pick: (request, pool, nowMs) => {
        decodeWorker = -1
        weighed = false
        const local = pickLocal(request, pool, nowMs)
        if (pool.prefillCount === 0 || pool.decodeCount === 0) return local
        if (local >= 0) {
          const uncachedTokens = request.promptTokens - pool.cachedTokens(request)[local]!
          if (uncachedTokens < threshold) return local
        }
        weighed = true
        const reader = pickReader(request, pool, nowMs)
        pickWriter(request, pool)
        if (readerMs + writer.cost >= localMs) return local
        decodeWorker = writer.worker
        return reader
      },
      decodeOn: () => decodeWorker,
      compared: (worker, pool) => weighed || isEligible(pool, worker),
      terms: (request, worker, pool, nowMs) => {
        if (!pool.prefill.subarray(0, pool.prefillCount).includes(worker))
          return localTerms(request, worker, pool, nowMs)
        pickWriter(request, pool)
        return { ...costs.terms(request, pool, worker, 1, nowMs), handOver: writer.cost / 1000 }
      }
    }
  }
)

/** Delay inflicted on those who are there by a request that is read and answered there. */
const wholeMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  outputTokens: number
): number =>
  workers.inFlight[worker]! * occupancyMs(workers, worker, promptTokens, cachedTokens, outputTokens)
