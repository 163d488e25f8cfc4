import type { WorkerColumns } from "../../domain/PoolView.ts"
import { requestState } from "../affinity.ts"
import { barrier, kvBarrierMs } from "../barriers.ts"
import { decodeStepMs, pendingMs, prefillMs } from "../costs.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Every signal is put into seconds by itself before it is weighed. A score scaled to the range over the workers would move with workers that
 * nobody picks, and make a difference of nothing as important as one of minutes.
 */
export const composite = definePlacement(
  {
    name: "composite",
    summary:
      "The worker of least weighted cost in GPU use, KV cache use, queue and latency, each in seconds.",
    definition:
      "Least gpu·G + kv·K + queue·Q + latency·L over all eligible workers, the step costs fitted to each. G is barrier·u / (1 − u) for the share u of its " +
      "capacity that the larger of inFlight and running + waiting takes. K is the same for the share of its KV cache that this prompt and the larger of " +
      "what it reported and what was sent there fill, 0 where the size is unknown. u and K's share are 0.99 at most. Q is the time to compute the prompts " +
      "that are pending there. L is the time to compute this one with nothing cached, and a decode step for each token of the expected " +
      "answer, the tenant's mean. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source:
      "weighted sums of signals as in llm-d-router's scorers and SMG's least_load.rs, in one unit and without normalization",
    stability: "stable",
    family: "argmin",
    unit: "seconds",
    uses: ["forecast"]
  },
  {
    gpu: weight("GPU use", "spread requests over batches that are less full"),
    kv: weight("KV cache use", "keep requests away from full caches"),
    queue: weight("queue", "avoid workers with prompts pending"),
    latency: weight("latency", "prefer fast workers and short steps, for long answers most"),
    barrier: {
      kind: "duration",
      default: 150,
      minimum: 0,
      maximum: 60_000,
      unit: "ms",
      summary:
        "What a batch or a KV cache that is half full costs; one nine tenths full costs nine times as much. Larger values weigh both uses more."
    }
  },
  (options) => {
    const { gpu, kv, queue, latency } = options
    const least = new LeastCost()
    const gpuMs = (workers: WorkerColumns, worker: number): number =>
      gpu * options.barrier * barrier(batchUse(workers, worker))
    const kvMs = (workers: WorkerColumns, worker: number, promptTokens: number): number =>
      kv * kvBarrierMs(workers, worker, promptTokens, options.barrier)
    const queueMs = (workers: WorkerColumns, worker: number): number => queue * pendingMs(workers, worker)
    const latencyMs = (
      workers: WorkerColumns,
      worker: number,
      promptTokens: number,
      outputTokens: number
    ): number =>
      latency * (prefillMs(workers, worker, promptTokens, 0) + outputTokens * decodeStepMs(workers, worker))
    return {
      pick: (request, { workers, eligible, eligibleCount, forecast }) => {
        const { promptTokens } = request
        const outputTokens = forecast.meanOutputTokens(request)
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          least.offer(
            workers,
            worker,
            gpuMs(workers, worker) +
              kvMs(workers, worker, promptTokens) +
              queueMs(workers, worker) +
              latencyMs(workers, worker, promptTokens, outputTokens)
          )
        }
        return least.worker
      },
      terms: (request, worker, { workers, forecast }) => ({
        gpu: gpuMs(workers, worker) / 1000,
        kv: kvMs(workers, worker, request.promptTokens) / 1000,
        queue: queueMs(workers, worker) / 1000,
        latency: latencyMs(workers, worker, request.promptTokens, forecast.meanOutputTokens(request)) / 1000
      })
    }
  }
)

/** Share of the worker's places that are taken. */
const batchUse = ({ inFlight, running, waiting, capacity }: WorkerColumns, worker: number): number =>
  Math.max(inFlight[worker]!, running[worker]! + waiting[worker]!) / Math.max(1, capacity[worker]!)

/** The option that weighs one signal. */
function weight(signal: string, effect: string) {
  return {
    kind: "number",
    default: 1,
    minimum: 0,
    maximum: 1000,
    summary: `Weight of the ${signal}. At 0 it does not count; larger values ${effect}.`
  } as const
}
