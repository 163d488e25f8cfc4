import { Reason } from "../../domain/Outcome.ts"
import type { WorkerColumns } from "../../domain/PoolView.ts"
import { grow } from "../../structures/grow.ts"
import { defineAdmission } from "../Admission.ts"
import { classCeiling, classCeilingRule } from "../classCeiling.ts"
import { decodeStepMs, prefillMs } from "../costs.ts"
import { mostCached } from "../mostCached.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

/**
 * An engine reads prompts before it goes on with answers, so prompts that arrive faster than the targets of the answers allow make all
 * of them late, long before the prompts themselves are. A token bucket at each worker, in time of prefill, holds them to what decoding
 * leaves. A long prompt needs a budget that is nearly empty: under pressure the requests with the most work for one met target go first.
 * Where nobody decodes, prompts delay no answer, and take all the time there is.
 *
 * Memory: 32 bytes a worker, 19 bytes a request slot.
 */
export const prefillBudget = defineAdmission(
  {
    name: "prefill-budget",
    summary:
      "Rejects prompts whose reading would leave the answers beside it too little time: tokens come in time as well as first tokens.",
    definition:
      "Room is the share of time that decoding leaves at a worker: 1 − step / itl, with a decode step as it would be with the request " +
      "there. A worker's budget is min(ttft, burst · room · mean answer · itl), with the mean of the answers expected there, this one " +
      "included. It fills with the prefill of the uncached tokens of each request that is placed there, and drains by rate · room ms each " +
      "ms, by 1 while no answer is produced there; who leaves before its first token takes its part along. Lets the request in where what is in the budget, its own prefill, and its equal share of " +
      "the prompts that are queued fit in at one worker. Also where a worker has nothing on it, the queue is empty, and nobody would save more than ttft of " +
      "the prefill by what it has cached; and where no worker may be picked that does whole requests. Else rejects with slo_infeasible. " +
      `${classCeilingRule} Retry-after is the shortest time until there is room, ${retryAfterRule}.`,
    cost: "O(N)",
    source:
      "token bucket, in prefill time; the interference of prefill with decoding is that of Agrawal et al., Sarathi-Serve, arXiv 2403.02310",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    ttft: {
      kind: "duration",
      default: 5_000,
      minimum: 1,
      unit: "ms",
      summary: "Time to first token that is in time. Larger lets longer prompts in beside others."
    },
    itl: {
      kind: "duration",
      default: 100,
      minimum: 1,
      unit: "ms",
      summary: "Time between two tokens that is in time. Larger leaves more time to prompts."
    },
    rate: {
      kind: "number",
      default: 0.85,
      minimum: 0.01,
      maximum: 1,
      summary:
        "Share of the room that prompts may take for long. Larger lets more in, and makes answers slower."
    },
    burst: {
      kind: "number",
      default: 0.3,
      minimum: 0.01,
      summary:
        "Share of the time that a mean answer has to spare that prompts may take at once. Larger lets longer prompts and bursts in, and makes " +
        "short answers late."
    }
  },
  ({ burst, itl, rate, ttft }, rng) => {
    const budgets = new Budgets()

    /** Share of time that decode steps leave, each `moreMs` longer than they are. */
    const roomAt = (workers: WorkerColumns, worker: number, moreMs: number): number =>
      Math.max(0, 1 - (decodeStepMs(workers, worker) + moreMs) / itl)

    /** Share of time that goes to prompts where decoding leaves so much. */
    const drainAt = (worker: number, room: number): number => (budgets.isDecoding(worker) ? rate * room : 1)

    const usedMs = (workers: WorkerColumns, worker: number, nowMs: number): number =>
      budgets.usedMs(worker, drainAt(worker, roomAt(workers, worker, 0)), nowMs)

    return {
      decide: (request, pool, queue, nowMs) => {
        const { eligible, eligibleCount, workers, forecast } = pool
        if (eligibleCount === 0) return null
        const { promptTokens } = request
        const { decodeContextMs, decodeSequenceMs, inFlight } = workers
        const cachedTokens = pool.cachedTokens(request)
        const outputTokens = forecast.meanOutputTokens(request)
        const ceiling = classCeiling(request.class)
        const aheadTokens = queue.queuedPromptTokens / eligibleCount
        let waitMs = Number.POSITIVE_INFINITY
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const cached = cachedTokens[worker]!
          if (inFlight[worker] === 0 && queue.queuedCount === 0) {
            const againMs = prefillMs(
              workers,
              worker,
              mostCached(eligible, eligibleCount, cachedTokens) - cached,
              cached
            )
            if (againMs <= ttft) return null
          }
          const moreMs = decodeSequenceMs[worker]! + decodeContextMs[worker]! * (promptTokens + outputTokens)
          const room = roomAt(workers, worker, moreMs)
          const budgetMs = Math.min(ttft, burst * room * budgets.meanAnswer(worker, outputTokens) * itl)
          const neededMs =
            usedMs(workers, worker, nowMs) +
            prefillMs(workers, worker, aheadTokens, 0) +
            prefillMs(workers, worker, promptTokens - cached, cached)
          const missingMs = neededMs - budgetMs * ceiling
          if (missingMs <= 0) return null
          waitMs = Math.min(waitMs, missingMs / drainAt(worker, room))
        }
        return { reason: Reason.sloInfeasible, retryAfterMs: retryAfterMs(waitMs, rng) }
      },
      placed: (request, worker, { forecast, workers }, nowMs) => {
        const { promptTokens, slot, uncachedTokens } = request
        const ownMs = prefillMs(workers, worker, uncachedTokens, promptTokens - uncachedTokens)
        const answer = Math.round(forecast.meanOutputTokens(request))
        budgets.add(slot, worker, ownMs, usedMs(workers, worker, nowMs), answer, nowMs)
      },
      // A request that is read at one worker and goes on at another one is released at that.
      started: ({ slot }, _worker, { workers }, nowMs) => {
        const worker = budgets.workerOf(slot)
        if (worker >= 0) budgets.started(slot, usedMs(workers, worker, nowMs), nowMs)
      },
      released: ({ slot }, _worker, _reason, { workers }, nowMs) => {
        const worker = budgets.workerOf(slot)
        if (worker >= 0) budgets.remove(slot, usedMs(workers, worker, nowMs), nowMs)
      }
    }
  }
)

const NOWHERE = -1

/** What is in the budgets of some workers, and which answers are expected of those placed there. */
class Budgets {
  /** By worker: the content at a time; requests placed there, and the tokens their answers are expected to have. */
  private contentMs = new Float64Array(0)
  private atMs = new Float64Array(0)
  private counts = new Int32Array(0)
  private answers = new Float64Array(0)
  /** By worker: how many of those requests have their first token. */
  private decoding = new Int32Array(0)
  /** By slot: where it was placed, what it filled in and may take along, its answer, and whether it has its first token. */
  private workers = new Int16Array(0)
  private ownMs = new Float64Array(0)
  private answerOf = new Float64Array(0)
  private hasToken = new Uint8Array(0)

  /** Where it was placed; -1 when it was not. */
  workerOf(slot: number): number {
    return this.workers[slot] ?? NOWHERE
  }

  /** Whether an answer is produced there. */
  isDecoding(worker: number): boolean {
    return worker < this.decoding.length && this.decoding[worker]! > 0
  }

  /** The content, where it drains by `rate` each ms. A copy that was sent before what was told of last fills it as of that. */
  usedMs(worker: number, rate: number, nowMs: number): number {
    if (worker >= this.contentMs.length) return 0
    return Math.max(0, this.contentMs[worker]! - rate * Math.max(0, nowMs - this.atMs[worker]!))
  }

  /** Of those placed there and one more. */
  meanAnswer(worker: number, answer: number): number {
    if (worker >= this.counts.length) return answer
    return (this.answers[worker]! + answer) / (this.counts[worker]! + 1)
  }

  /** A request was placed at `worker`, which fills in `ownMs` beside `usedMs` and expects `answer` tokens of it. */
  add(slot: number, worker: number, ownMs: number, usedMs: number, answer: number, nowMs: number): void {
    if (worker >= this.counts.length) {
      this.contentMs = grow(this.contentMs, worker, floats)
      this.atMs = grow(this.atMs, worker, floats)
      this.counts = grow(this.counts, worker, (length) => new Int32Array(length))
      this.answers = grow(this.answers, worker, floats)
      this.decoding = grow(this.decoding, worker, (length) => new Int32Array(length))
    }
    if (slot >= this.workers.length) {
      this.workers = grow(this.workers, slot, (length) => new Int16Array(length).fill(NOWHERE))
      this.ownMs = grow(this.ownMs, slot, floats)
      this.answerOf = grow(this.answerOf, slot, floats)
      this.hasToken = grow(this.hasToken, slot, (length) => new Uint8Array(length))
    }
    this.set(worker, usedMs + ownMs, nowMs)
    this.counts[worker]!++
    this.answers[worker]! += answer
    this.workers[slot] = worker
    this.ownMs[slot] = ownMs
    this.answerOf[slot] = answer
  }

  /** Its prefill is done: nothing of it can be taken back, and it decodes. */
  started(slot: number, usedMs: number, nowMs: number): void {
    if (this.hasToken[slot] === 1) return
    const worker = this.workers[slot]!
    this.set(worker, usedMs, nowMs)
    this.ownMs[slot] = 0
    this.hasToken[slot] = 1
    this.decoding[worker]!++
  }

  remove(slot: number, usedMs: number, nowMs: number): void {
    const worker = this.workers[slot]!
    this.set(worker, Math.max(0, usedMs - this.ownMs[slot]!), nowMs)
    this.counts[worker]!--
    this.answers[worker]! -= this.answerOf[slot]!
    this.decoding[worker]! -= this.hasToken[slot]!
    this.hasToken[slot] = 0
    this.workers[slot] = NOWHERE
  }

  private set(worker: number, contentMs: number, nowMs: number): void {
    this.contentMs[worker] = contentMs
    this.atMs[worker] = Math.max(this.atMs[worker]!, nowMs)
  }
}

const floats = (length: number): Float64Array<ArrayBuffer> => new Float64Array(length)
