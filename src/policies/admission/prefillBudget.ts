import { Reason } from "../../domain/Outcome.ts"
import type { WorkerColumns } from "../../domain/PoolView.ts"
import { bytes, floats, grow, nones } from "../../structures/grow.ts"
import { defineAdmission } from "../Admission.ts"
import { ceilingRule } from "../ceilings.ts"
import { decodeStepMs, prefillMs } from "../costs.ts"
import { mostCached } from "../mostCached.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

/**
 * An engine reads prompts before it goes on with answers, so prompts that arrive faster than the targets of the answers allow make all
 * of them late, long before the prompts themselves are. A token bucket at each worker, in time of prefill, holds them to what decoding
 * leaves. A long prompt needs a budget that is nearly empty: under pressure the requests with the most work for one met target go first.
 * Where nobody decodes, prompts delay no answer, and take all the time there is. Where most budgets are empty there is no pressure: who
 * comes next finds room elsewhere, so a prompt too long for any budget is let in rather than refused beside workers with little to do.
 *
 * Memory: about 70 bytes a worker, 21 a request slot.
 */
export const prefillBudget = defineAdmission(
  {
    name: "prefill-budget",
    summary:
      "Rejects prompts whose reading would slow the answers beside them down too much: so that later tokens come in time, and first ones too.",
    definition:
      "Room is the share of time that decoding leaves at a worker: 1 − step / itl, with a decode step as it would be with the request " +
      "there. A worker's budget is min(ttft, burst · room · mean answer · itl), with the mean of the answers expected there, this one " +
      "included. It fills with the prefill of the uncached tokens of each request that is placed there, and drains by rate · room ms each " +
      "ms, by 1 while no answer is produced there; who leaves before its first token takes its part along. Lets the request in where what is in the budget, its own prefill, and its equal share of " +
      "the prompts that are queued fit in at one worker. Also where less than spare · free · free / all is missing at some worker, with free what is left of the budgets of all " +
      "workers, after their shares of the queue, and all the sum of these budgets; where a worker has nothing on it, the queue is empty, and nobody would save more than ttft of " +
      "the prefill by what it has cached; and where no worker may be picked that does whole requests. Else rejects with slo_infeasible. " +
      `${ceilingRule} Retry-after is the shortest time until there is room at one of them, ${retryAfterRule}.`,
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
    },
    spare: {
      kind: "number",
      default: 0.1,
      minimum: 0,
      summary:
        "Share of the room in all budgets by which a prompt may exceed that at one worker, where all of them are empty; the less the fuller they are. " +
        "Larger serves long prompts late rather than not at all, and slows the answers beside them. At 0 each worker is asked alone."
    }
  },
  ({ burst, itl, rate, spare, ttft }, rng) => {
    const budgets: Array<Budget | undefined> = []
    const placements = new Placements()
    const budgetOf = (worker: number): Budget => (budgets[worker] ??= new Budget())

    /** Share of time that decode steps leave, each `moreMs` longer than they are. */
    const roomAt = (workers: WorkerColumns, worker: number, moreMs: number): number =>
      Math.max(0, 1 - (decodeStepMs(workers, worker) + moreMs) / itl)

    /** Share of time that goes to prompts where decoding leaves so much. */
    const drainAt = (budget: Budget, room: number): number => (budget.decoding > 0 ? rate * room : 1)

    /** The content. A copy that was sent before what was told of last fills it as of that. */
    const usedMs = (budget: Budget, workers: WorkerColumns, worker: number, nowMs: number): number => {
      const { atMs, contentMs } = budget
      if (nowMs <= atMs) return contentMs
      return Math.max(0, contentMs - drainAt(budget, roomAt(workers, worker, 0)) * (nowMs - atMs))
    }

    return {
      decide: (request, pool, queue, nowMs) => {
        const { eligible, eligibleCount, workers, forecast } = pool
        if (eligibleCount === 0) return null
        const { promptTokens } = request
        const { decodeContextMs, decodeSequenceMs, inFlight } = workers
        const cachedTokens = pool.cachedTokens(request)
        const outputTokens = forecast.meanOutputTokens(request)
        const ceiling = queue.ceiling(request)
        const aheadTokens = queue.queuedPromptTokens / eligibleCount
        let waitMs = Number.POSITIVE_INFINITY
        let leastMs = Number.POSITIVE_INFINITY
        let freeMs = 0
        let allMs = 0
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
          const budget = budgetOf(worker)
          const moreMs = decodeSequenceMs[worker]! + decodeContextMs[worker]! * (promptTokens + outputTokens)
          const room = roomAt(workers, worker, moreMs)
          const budgetMs = Math.min(ttft, burst * room * budget.meanAnswer(outputTokens) * itl) * ceiling
          const leftMs =
            budgetMs - usedMs(budget, workers, worker, nowMs) - prefillMs(workers, worker, aheadTokens, 0)
          const missingMs = prefillMs(workers, worker, promptTokens - cached, cached) - leftMs
          if (missingMs <= 0) return null
          waitMs = Math.min(waitMs, missingMs / drainAt(budget, room))
          leastMs = Math.min(leastMs, missingMs)
          freeMs += Math.max(0, leftMs)
          allMs += budgetMs
        }
        if (leastMs * allMs < spare * freeMs * freeMs) return null
        return { reason: Reason.sloInfeasible, retryAfterMs: retryAfterMs(waitMs, rng) }
      },
      placed: (request, worker, { forecast, workers }, nowMs) => {
        const { promptTokens, slot, uncachedTokens } = request
        const ownMs = prefillMs(workers, worker, uncachedTokens, promptTokens - uncachedTokens)
        const answer = Math.round(forecast.meanOutputTokens(request))
        const budget = budgetOf(worker)
        budget.set(usedMs(budget, workers, worker, nowMs) + ownMs, nowMs)
        budget.count++
        budget.answers += answer
        placements.place(slot, worker, ownMs, answer)
      },
      // A request that is read at one worker and goes on at another one is released at that.
      started: ({ slot }, _worker, { workers }, nowMs) => {
        const worker = placements.workerOf(slot)
        if (worker < 0 || placements.hasToken[slot] === 1) return
        const budget = budgetOf(worker)
        budget.set(usedMs(budget, workers, worker, nowMs), nowMs)
        budget.decoding++
        placements.ownMs[slot] = 0
        placements.hasToken[slot] = 1
      },
      released: ({ slot }, _worker, _reason, { workers }, nowMs) => {
        const worker = placements.workerOf(slot)
        if (worker < 0) return
        const budget = budgetOf(worker)
        budget.set(Math.max(0, usedMs(budget, workers, worker, nowMs) - placements.ownMs[slot]!), nowMs)
        budget.count--
        budget.answers -= placements.answer[slot]!
        if (placements.hasToken[slot] === 1) budget.decoding--
        placements.remove(slot)
      }
    }
  }
)

const NOWHERE = -1

/** What is in the budget of a worker, and which answers are expected of those placed there. */
class Budget {
  /** The content at a time. */
  contentMs = 0
  atMs = 0
  /** Requests placed there, the tokens their answers are expected to have, and how many have their first token. */
  count = 0
  answers = 0
  decoding = 0

  /** Of those placed there and one more. */
  meanAnswer(answer: number): number {
    return (this.answers + answer) / (this.count + 1)
  }

  set(contentMs: number, nowMs: number): void {
    this.contentMs = contentMs
    if (nowMs > this.atMs) this.atMs = nowMs
  }
}

/** By request slot: where it was placed, what it filled in and may take along, its answer, and whether it has its first token. */
class Placements {
  ownMs = floats(0)
  answer = floats(0)
  hasToken = bytes(0)
  private worker = nones(0)

  /** -1 for nowhere. */
  workerOf(slot: number): number {
    return this.worker[slot] ?? NOWHERE
  }

  place(slot: number, worker: number, ownMs: number, answer: number): void {
    if (slot >= this.worker.length) {
      this.worker = grow(this.worker, slot, nones)
      this.ownMs = grow(this.ownMs, slot, floats)
      this.answer = grow(this.answer, slot, floats)
      this.hasToken = grow(this.hasToken, slot, bytes)
    }
    this.worker[slot] = worker
    this.ownMs[slot] = ownMs
    this.answer[slot] = answer
  }

  remove(slot: number): void {
    this.worker[slot] = NOWHERE
    this.hasToken[slot] = 0
  }
}
