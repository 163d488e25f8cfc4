import { Reason } from "../../domain/Outcome.ts"
import { assert } from "../../structures/assert.ts"
import { PeakEwma } from "../../structures/Ewma.ts"
import { bytes, floats, grow, nones } from "../../structures/grow.ts"
import { SLOTS_MAX } from "../../structures/SlotLists.ts"
import { drawDistinct } from "../drawDistinct.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Measures what a worker does to requests, whatever the reason, and needs no model of it. The time of whole answers would tell long answers
 * from short ones rather than slow workers from fast ones, so prefill is measured by the token and decoding by the step.
 */
export const leastLatency = definePlacement(
  {
    name: "least-latency",
    summary:
      "Of two random workers the one that has answered faster of late, in time per prompt token and per decode step.",
    definition:
      "Least p·max(256, pending + prompt tokens) + s·(unstarted + 1)^exponent·expected answer + f over d distinct random workers; ties go to the one drawn " +
      "first. p is the time per prompt token: from placement to first token, over the tokens pending there at placement, 256 at least; an attempt that ends " +
      "without a token counts with the time until then, where p is known or its deadline passed. s is the time " +
      "per decode step. f is failurePenalty since an attempt failed there. Each is a peak average: up to a higher sample at once, down by " +
      "a factor e^(−Δ/memory) at most within Δ, also while there is no sample. A worker that has not answered yet costs f while nothing is " +
      "in flight there; else it comes behind all that have, by inFlight / speed.",
    cost: "O(1)",
    source:
      "Finagle, loadbalancer/PeakEwma.scala; exponent 3 as in Suresh, Canini, Schmid, Feldmann, C3, NSDI 2015",
    stability: "stable",
    family: "sampling",
    unit: "seconds",
    uses: ["forecast"]
  },
  {
    d: {
      kind: "integer",
      default: 2,
      minimum: 1,
      maximum: 16,
      unit: "workers",
      summary:
        "Workers looked at for each request. More of them find faster ones, and run together to one that recovers."
    },
    memory: {
      kind: "duration",
      default: 10_000,
      minimum: 1,
      maximum: 600_000,
      unit: "ms",
      summary:
        "Time in which a measurement loses most of its weight. Larger values avoid a worker that was slow for longer, and are calmer."
    },
    failurePenalty: {
      kind: "duration",
      default: 5000,
      minimum: 0,
      maximum: 600_000,
      unit: "ms",
      summary:
        "What a failed attempt adds to the cost of its worker at first. Larger values keep requests away for longer from one that fails fast."
    },
    exponent: {
      kind: "integer",
      default: 1,
      minimum: 1,
      maximum: 3,
      summary:
        "How steeply attempts that have not started weigh, since no measured step shows them. Larger values spread bursts more evenly, against the measured speed."
    }
  },
  ({ d, memory, failurePenalty, exponent }, rng) => {
    const drawn = new Int32Array(d)
    const prefillMs = new PeakEwma(memory)
    const stepMs = new PeakEwma(memory)
    const failureMs = new PeakEwma(memory)
    const attempts = new Attempts()
    return {
      pick: (request, { workers, eligible, eligibleCount, forecast }, nowMs) => {
        const { inFlight, prefilling, pendingPrefillTokens, speed } = workers
        const outputTokens = forecast.meanOutputTokens(request)
        const draws = Math.min(d, eligibleCount)
        let best = -1
        let bestCost = Number.POSITIVE_INFINITY
        for (let count = 0; count < draws; count++) {
          const worker = eligible[drawDistinct(drawn, count, eligibleCount, rng)]!
          const perTokenMs = prefillMs.at(worker, nowMs)
          const tokens = pendingPrefillTokens[worker]! + request.promptTokens
          const cost =
            perTokenMs === 0
              ? UNKNOWN_MS * (inFlight[worker]! / speed[worker]!) + failureMs.at(worker, nowMs)
              : perTokenMs * Math.max(TOKENS_MIN, tokens) +
                stepMs.at(worker, nowMs) * (prefilling[worker]! + 1) ** exponent * outputTokens +
                failureMs.at(worker, nowMs)
          if (best >= 0 && cost >= bestCost) continue
          best = worker
          bestCost = cost
        }
        return best
      },
      placed: ({ slot }, worker, { workers }, nowMs) =>
        attempts.place(slot, worker, Math.max(TOKENS_MIN, workers.pendingPrefillTokens[worker]!), nowMs),
      timed: ({ slot }, worker, _pool, nowMs) => {
        if (attempts.workerOf(slot) === worker)
          prefillMs.record(worker, attempts.msPerToken(slot, nowMs), nowMs)
      },
      started: ({ slot }, worker, _pool, nowMs) => {
        if (attempts.workerOf(slot) === worker) attempts.streamed(slot, nowMs)
      },
      produced: ({ slot }, tokens, _pool, nowMs) => {
        if (!attempts.isStreaming(slot)) return
        stepMs.record(attempts.workerOf(slot), attempts.msSince(slot, nowMs) / tokens, nowMs)
        attempts.streamed(slot, nowMs)
      },
      released: ({ slot }, worker, reason, _pool, nowMs) => {
        if (failures.has(reason)) failureMs.record(worker, failurePenalty, nowMs)
        if (attempts.workerOf(slot) !== worker) return
        if (!attempts.isStreaming(slot)) {
          // Its first token would have taken longer still. A peak average only goes up by that; of an unknown worker a client that went away
          // early would say that it is fast.
          const isKnown = prefillMs.at(worker, nowMs) > 0
          if (isKnown || reason === Reason.expired)
            prefillMs.record(worker, attempts.msPerToken(slot, nowMs), nowMs)
        }
        attempts.forget(slot)
      },
      changed: (worker) => {
        prefillMs.reset(worker)
        stepMs.reset(worker)
        failureMs.reset(worker)
      }
    }
  }
)

/** Prompt tokens up to which the time to first token is mostly that of a step, whatever their number. */
const TOKENS_MIN = 256

/** More than any known cost, and finite for any number of requests. */
const UNKNOWN_MS = 1e100

const failures: ReadonlySet<Reason> = new Set([
  Reason.workerLost,
  Reason.workerFailed,
  Reason.workerProtocol,
  Reason.workerRefused
])

/** The last attempt of each request, by slot: of two at a time, the first is not measured. 21 bytes a slot, slots < 65 536. */
class Attempts {
  /** -1 where there is none. */
  private worker = new Int32Array(0)
  private streaming = new Uint8Array(0)
  /** When it was placed, or its last token seen. */
  private sinceMs = new Float64Array(0)
  /** Prompt tokens that were to be computed before its first token, its own included. */
  private tokens = new Float64Array(0)

  place(slot: number, worker: number, tokens: number, nowMs: number): void {
    if (slot >= this.worker.length) this.growTo(slot)
    this.worker[slot] = worker
    this.streaming[slot] = 0
    this.sinceMs[slot] = nowMs
    this.tokens[slot] = tokens
  }

  /** Tokens came, the first ones or more. */
  streamed(slot: number, nowMs: number): void {
    this.streaming[slot] = 1
    this.sinceMs[slot] = nowMs
  }

  forget(slot: number): void {
    this.worker[slot] = NONE
  }

  /** The worker of a slot, or -1. */
  workerOf(slot: number): number {
    return this.worker[slot] ?? NONE
  }

  isStreaming(slot: number): boolean {
    return this.workerOf(slot) !== NONE && this.streaming[slot] === 1
  }

  msSince(slot: number, nowMs: number): number {
    return nowMs - this.sinceMs[slot]!
  }

  msPerToken(slot: number, nowMs: number): number {
    return this.msSince(slot, nowMs) / this.tokens[slot]!
  }

  private growTo(slot: number): void {
    assert(slot < SLOTS_MAX, "slots are below 65 536")
    this.worker = grow(this.worker, slot, nones)
    this.streaming = grow(this.streaming, slot, bytes)
    this.sinceMs = grow(this.sinceMs, slot, floats)
    this.tokens = grow(this.tokens, slot, floats)
  }
}

const NONE = -1
