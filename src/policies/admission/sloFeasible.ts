import { Reason } from "../../domain/Outcome.ts"
import type { PoolView, WorkerColumns } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { defineAdmission, type QueueView } from "../Admission.ts"
import { ceilingRule } from "../ceilings.ts"
import { CHUNK_TOKENS, decodeStepMs, prefillMs, roomMs, stepsMs, waitMs } from "../costs.ts"
import { mostCached } from "../mostCached.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

/**
 * Of an expected wait, which is a mean: ends of requests come in bursts, and how far predictions of computing are off says nothing of
 * it. With half of it, or with that quantile, a tenth of the requests are late in a model whose queue decides.
 */
const WAIT_MARGIN = 2

/**
 * Work that comes too late is worth nothing, and makes other work late. What is predicted to be late is refused before anyone works on
 * it, and its caller told when to come back.
 */
export const sloFeasible = defineAdmission(
  {
    name: "slo-feasible",
    summary:
      "Rejects what no worker is predicted to serve in time: under overload, those who are let in are served as if there were none.",
    definition:
      "A worker that may be picked can serve a request in time if (1) its predicted time to first token, after its equal share of the " +
      "prompts that are queued, times the quantile of actual / predicted that nine of ten requests met, is at most max(ttft, stretch × " +
      "the time the request's own prompt takes there) and before the deadline, and (2) a decode step with the request there takes at " +
      "most itl. A worker with nothing on it serves any request whose deadline it meets, as long as the queue is empty and it computes " +
      "no more than ttft of the prompt that another worker has cached: to do so much again would cost that cache its turn. Lets the request " +
      "in when a worker can, else rejects with slo_infeasible. When none may be picked twice the expected wait counts in place of the " +
      "queued prompts, before the first token at the worker that was best for the last request that found any; when there was none, or while " +
      "nothing ends and the wait is unknown, all are let in. " +
      `${ceilingRule} Where reading and producing are split, (1) is asked of the former workers and (2) of the latter. Retry-after ` +
      "is the time by which the nearest worker is too late, or where its steps are too long the usual time until a request there ends, " +
      `${retryAfterRule}.`,
    cost: "O(N)",
    source:
      "early rejection in Qin et al., Mooncake, arXiv 2407.00079, with measured calibration; llm-d's priority ceilings",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    ttft: {
      kind: "duration",
      default: 5_000,
      minimum: 1,
      unit: "ms",
      summary: "Time to first token that is in time. Larger lets more in, and lets all of them wait longer."
    },
    stretch: {
      kind: "number",
      default: 2,
      minimum: 1,
      maximum: 100,
      summary:
        "Times the computation of its own prompt that a request may take, where that is more than ttft. Larger is kinder to long prompts."
    },
    itl: {
      kind: "duration",
      default: 100,
      minimum: 1,
      unit: "ms",
      summary: "Time between two tokens that is in time. Larger lets more requests share a worker."
    }
  },
  (targets, rng) => {
    const asked = new Question(targets)
    return {
      decide: (request, pool, queue, nowMs) => {
        const missingMs = asked.missingMs(request, pool, queue, nowMs)
        if (missingMs <= 0) return null
        return { reason: Reason.sloInfeasible, retryAfterMs: retryAfterMs(missingMs, rng) }
      }
    }
  }
)

const UNKNOWN = -1

/** Whether one request is served in time at one pool; what is the same for all workers is worked out once. */
class Question {
  private readonly targets: { readonly ttft: number; readonly stretch: number; readonly itl: number }
  private workers!: WorkerColumns
  private cachedTokens!: Float64Array
  private promptTokens = 0
  private outputTokens = 0
  private ratio = 1
  private ceiling = 1
  private nowMs = 0
  private leftMs = 0
  /** Of the queue: its expected wait, and its prompt tokens for each worker. */
  private waitMs = 0
  private aheadTokens = 0
  private queueEmpty = false
  /** Most tokens of the prompt that some worker has cached, once that was asked for. */
  private mostCached = UNKNOWN
  private pool!: PoolView
  /** The worker that was nearest to serving the last request that found one; -1 before. */
  private nearest = -1

  constructor(targets: Question["targets"]) {
    this.targets = targets
  }

  /** Until some worker can serve the request in time; 0 or less when one can, or when nobody can tell. */
  missingMs(request: RequestView, pool: PoolView, queue: QueueView, nowMs: number): number {
    const { eligible, eligibleCount, prefill, prefillCount, decode, decodeCount } = pool
    const count = eligibleCount + prefillCount
    this.pool = pool
    this.workers = pool.workers
    this.cachedTokens = pool.cachedTokens(request)
    this.promptTokens = request.promptTokens
    this.outputTokens = pool.forecast.meanOutputTokens(request)
    this.ratio = pool.forecast.ttftRatio
    this.ceiling = queue.ceiling(request)
    this.nowMs = nowMs
    this.leftMs = request.deadlineMs - nowMs
    this.waitMs = count === 0 ? queue.expectedWaitMs : 0
    this.aheadTokens = count === 0 ? 0 : queue.queuedPromptTokens / count
    this.queueEmpty = queue.queuedCount === 0
    this.mostCached = UNKNOWN
    if (count === 0) {
      const known = this.nearest >= 0 && Number.isFinite(this.waitMs)
      return known ? this.lateMs(this.nearest) : 0
    }
    let producingMs = Number.POSITIVE_INFINITY
    if (prefillCount > 0)
      for (let i = 0; i < decodeCount; i++) producingMs = Math.min(producingMs, this.slowMs(decode[i]!))
    let leastMs = Number.POSITIVE_INFINITY
    for (let i = 0; i < count && leastMs > 0; i++) {
      const worker = i < eligibleCount ? eligible[i]! : prefill[i - eligibleCount]!
      const lateMs = this.lateMs(worker)
      if (lateMs >= leastMs) continue
      const missingMs = Math.max(lateMs, i < eligibleCount ? this.slowMs(worker) : producingMs)
      if (!(missingMs < leastMs)) continue
      leastMs = missingMs
      this.nearest = worker
    }
    return leastMs
  }

  /** By how much too late the first token would come; 0 or less when in time. */
  private lateMs(worker: number): number {
    const { workers, promptTokens, outputTokens, targets, leftMs } = this
    const cachedTokens = this.cachedTokens[worker] ?? 0
    const n = promptTokens - cachedTokens
    const ownMs = prefillMs(workers, worker, n, cachedTokens)
    // `ttftMs` in its parts, which takes half the time.
    const placedMs =
      waitMs(workers, worker, this.nowMs) +
      ownMs +
      stepsMs(workers, worker, n, CHUNK_TOKENS) +
      roomMs(workers, worker, promptTokens, cachedTokens, outputTokens)
    if (this.queueEmpty && workers.inFlight[worker] === 0) {
      const againMs = prefillMs(workers, worker, this.mostTokens() - cachedTokens, cachedTokens)
      if (againMs <= targets.ttft) return placedMs - leftMs
    }
    const aheadMs = prefillMs(workers, worker, this.aheadTokens, 0)
    const allowedMs = Math.max(targets.ttft, targets.stretch * ownMs) * this.ceiling
    return WAIT_MARGIN * this.waitMs + (aheadMs + placedMs) * this.ratio - Math.min(allowedMs, leftMs)
  }

  private mostTokens(): number {
    if (this.mostCached !== UNKNOWN) return this.mostCached
    const { eligible, eligibleCount, prefill, prefillCount } = this.pool
    const whole = mostCached(eligible, eligibleCount, this.cachedTokens)
    this.mostCached = Math.max(whole, mostCached(prefill, prefillCount, this.cachedTokens))
    return this.mostCached
  }

  /** Until decode steps would be short enough with one more request there; 0 when they are. */
  private slowMs(worker: number): number {
    const { workers, outputTokens, promptTokens } = this
    const inFlight = workers.inFlight[worker]!
    const stepMs =
      decodeStepMs(workers, worker) +
      workers.decodeSequenceMs[worker]! +
      workers.decodeContextMs[worker]! * (promptTokens + outputTokens)
    if (inFlight === 0 || stepMs <= this.targets.itl * this.ceiling) return 0
    return (outputTokens * stepMs) / inFlight
  }
}
