import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { floats, grow } from "../structures/grow.ts"
import {
  CHUNK_TOKENS,
  chunks,
  decodeStepMs,
  externalityMs,
  lastingMs,
  leavingShare,
  prefillMs,
  roomMs,
  stepsMs,
  waitMs
} from "./costs.ts"
import { mostCached } from "./mostCached.ts"
import type { OptionSpecs } from "./Policy.ts"

export const chunkOptions = {
  chunkTokens: {
    kind: "integer",
    default: CHUNK_TOKENS,
    minimum: 16,
    maximum: 1_048_576,
    unit: "tokens",
    summary:
      "Prompt tokens that the engines compute in one step. Smaller values charge more steps for the same prompts."
  }
} as const satisfies OptionSpecs

/**
 * What a request costs on each worker of a pool: its predicted time to first token, and a share `externality` of the delay of those who
 * are there, as far as it is avoidable or lasts. Prompts are computed in chunks of `chunkTokens`. Three columns, grown to the largest slot
 * seen; nothing else is allocated.
 */
export class CompletionCosts {
  private readonly chunkTokens: number
  private readonly externality: number
  private readonly absorbedMs: number
  /** Most tokens of the prompt that one of the workers has cached that were asked about last. */
  mostCached = 0
  /** By slot, of the workers that were asked about last: what a decode step takes. */
  stepMs = new Float64Array(0)
  /** What computing the prompt there takes, but for what is cached. */
  ownMs = new Float64Array(0)
  /** And what of the cost would be saved if as much of the prompt were cached there as where most is. */
  copyMs = new Float64Array(0)
  private costMs = new Float64Array(0)

  /** Without an externality it is the time to first token alone. */
  constructor(chunkTokens: number, externality = 0, absorbedMs = Number.POSITIVE_INFINITY) {
    this.chunkTokens = chunkTokens
    this.externality = externality
    this.absorbedMs = absorbedMs
  }

  /**
   * By slot, for the workers slots[0 .. count): `ttftMs + externality · externalityMs` of the request with an answer of `outputTokens`. Of
   * what is computed again `againShare` counts. Valid until the next call; the caller may add to it. The formulas of `costs.ts` once more,
   * with the columns at hand: 2.5 times as fast as calling those.
   */
  of(
    request: RequestView,
    pool: PoolView,
    slots: Int32Array,
    count: number,
    outputTokens: number,
    nowMs: number,
    againShare = 0
  ): Float64Array {
    const { workers } = pool
    const { inFlight, prefilling, contextTokens, pendingPrefillTokens, pendingPrefillAttention } = workers
    const { baseMs, prefillTokenMs, prefillAttentionMs, decodeSequenceMs, decodeContextMs } = workers
    const { kvCapacityTokens, maxSequences, prefillDueMs, prefillSinceMs } = workers
    if (inFlight.length > this.costMs.length) {
      this.costMs = grow(this.costMs, inFlight.length - 1, floats)
      this.stepMs = grow(this.stepMs, inFlight.length - 1, floats)
      this.ownMs = grow(this.ownMs, inFlight.length - 1, floats)
      this.copyMs = grow(this.copyMs, inFlight.length - 1, floats)
    }
    const { absorbedMs, chunkTokens, copyMs, costMs, externality } = this
    const decodeMs = this.stepMs
    const prefills = this.ownMs
    const { promptTokens } = request
    const cachedTokens = pool.cachedTokens(request)
    const allTokens = promptTokens + outputTokens
    const most = mostCached(slots, count, cachedTokens)
    this.mostCached = most
    const leastSteps = chunks(promptTokens - most, chunkTokens)
    for (let i = 0; i < count; i++) {
      const worker = slots[i]!
      const cached = cachedTokens[worker]!
      const n = promptTokens - cached
      const again = most - cached
      const tokenMs = prefillTokenMs[worker]!
      const attentionMs = prefillAttentionMs[worker]!
      const sequenceMs = decodeSequenceMs[worker]!
      const contextMs = decodeContextMs[worker]!
      const pending = pendingPrefillTokens[worker]!
      const others = inFlight[worker]!
      const held = contextTokens[worker]!
      const ownMs = tokenMs * n + attentionMs * n * (cached + n / 2)
      const stepMs = baseMs[worker]! + sequenceMs * (others - prefilling[worker]!) + contextMs * held
      decodeMs[worker] = stepMs
      prefills[worker] = ownMs
      const ownSteps = chunks(n, chunkTokens)
      const steps = (others > 0 ? 1 : 0) + ownSteps
      let aheadMs = 0
      if (pending > 0) {
        const doneMs = Math.min(nowMs, prefillDueMs[worker]!) - prefillSinceMs[worker]!
        const computeMs = tokenMs * pending + attentionMs * pendingPrefillAttention[worker]!
        aheadMs = Math.max(0, computeMs + chunks(pending, chunkTokens) * stepMs - doneMs)
      }
      if (held + allTokens > kvCapacityTokens[worker]! || others >= maxSequences[worker]!)
        aheadMs += leavingShare(workers, worker, promptTokens, cached, outputTokens) * outputTokens * stepMs
      const againMs = again * (tokenMs + attentionMs * (cached + again / 2))
      const lastsMs = lastingMs(ownMs, absorbedMs)
      costMs[worker] =
        aheadMs + ownMs + steps * stepMs + externality * others * (againShare * againMs + lastsMs)
      copyMs[worker] = 0
      if (again === 0) continue
      const leastMs = ownMs - againMs
      copyMs[worker] =
        againMs +
        (ownSteps - leastSteps) * stepMs +
        externality * others * (againShare * againMs + lastsMs - lastingMs(leastMs, absorbedMs))
    }
    return costMs
  }

  /** `copyMs` of any worker, with what has most cached of those that were asked about last. */
  copyAt(request: RequestView, pool: PoolView, worker: number, againShare: number): number {
    const { absorbedMs, chunkTokens, externality, mostCached: most } = this
    const { workers } = pool
    const { promptTokens } = request
    const cached = Math.min(pool.cachedTokens(request)[worker]!, most)
    const againMs = prefillMs(workers, worker, most - cached, cached)
    const againSteps = chunks(promptTokens - cached, chunkTokens) - chunks(promptTokens - most, chunkTokens)
    const sparedMs = (held: number): number =>
      externalityMs(workers, worker, promptTokens, held, most, againShare, absorbedMs)
    return (
      againMs + againSteps * decodeStepMs(workers, worker) + externality * (sparedMs(cached) - sparedMs(most))
    )
  }

  /** What the cost on one of the eligible workers is made of, in seconds, when all of them may be picked. */
  terms(
    request: RequestView,
    pool: PoolView,
    worker: number,
    outputTokens: number,
    nowMs: number,
    againShare = 0
  ) {
    const { eligible, eligibleCount, workers } = pool
    const { promptTokens } = request
    const cachedTokens = pool.cachedTokens(request)
    const cached = cachedTokens[worker]!
    const n = promptTokens - cached
    const most = Math.max(cached, mostCached(eligible, eligibleCount, cachedTokens))
    const othersMs = externalityMs(workers, worker, promptTokens, cached, most, againShare, this.absorbedMs)
    return {
      waitingPrompts: waitMs(workers, worker, nowMs, this.chunkTokens) / 1000,
      ownPrefill: prefillMs(workers, worker, n, cached) / 1000,
      steps: stepsMs(workers, worker, n, this.chunkTokens) / 1000,
      room: roomMs(workers, worker, promptTokens, cached, outputTokens) / 1000,
      externality: (this.externality * othersMs) / 1000
    }
  }
}
