import { Reason } from "../domain/Outcome.ts"
import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { bytes, floats, grow } from "../structures/grow.ts"
import type { TokenPrices } from "./demand.ts"

/** How far a request has come. */
const Stage = { none: 0, taken: 1, placed: 2, started: 3 } as const

/** Ends that are the doing of the request's tenant: what the attempt has computed until then was computed for it. */
const ownEnds = new Set<Reason>([Reason.none, Reason.cancelled, Reason.expired, Reason.slowConsumer])

export interface LedgerOptions extends TokenPrices {
  /** Charge the prompt tokens that had to be computed, or all of them. */
  readonly charge: "uncached" | "all"
  /** Charge the output that is expected when a request is given out, and correct it as it comes. */
  readonly predict: boolean
}

/**
 * What requests pay for their tokens, from when they are given out to their ends. Told what happens to them, in any order that
 * `PolicyEvents` allows, it calls `pay` with each charge, below 0 for a refund.
 *
 * Of one request the charges sum up to inputPrice × its prompt tokens + outputPrice × the tokens it was delivered, and never to less than
 * 0 on the way. The prompt is paid once: what the attempt computes that gives the first token. An attempt that ends before that is
 * refunded, unless its tenant ended it. So a retry costs the tenant nothing, and nor does a second copy. 17 bytes a slot.
 */
export class TokenLedger {
  private readonly options: LedgerOptions
  private readonly pay: (request: RequestView, cost: number) => void
  private stage = new Uint8Array(0)
  /** Prompt tokens paid for. */
  private input = new Float64Array(0)
  /** Output tokens paid for that did not come yet. */
  private ahead = new Float64Array(0)

  constructor(options: LedgerOptions, pay: (request: RequestView, cost: number) => void) {
    this.options = options
    this.pay = pay
  }

  /** Whether it was given out, and neither placed nor put back since. */
  isTaken(slot: number): boolean {
    return this.stageOf(slot) === Stage.taken
  }

  /** Whether nothing was heard of it since it was queued, or ever. */
  isNew(slot: number): boolean {
    return this.stageOf(slot) === Stage.none
  }

  /** The request is given out. What of its prompt is cached is not known before it is placed. */
  take(request: RequestView, pool: PoolView): void {
    this.advance(request, Stage.taken, request.promptTokens, pool)
  }

  place(request: RequestView, pool: PoolView): void {
    const { promptTokens, uncachedTokens } = request
    const tokens = this.options.charge === "all" ? promptTokens : uncachedTokens
    this.advance(request, Stage.placed, tokens, pool)
  }

  start({ slot }: RequestView): void {
    this.reach(slot, Stage.started)
  }

  produce(request: RequestView, tokens: number): void {
    const { slot } = request
    this.reach(slot, Stage.started)
    const paid = Math.min(tokens, this.ahead[slot]!)
    this.ahead[slot]! -= paid
    this.charge(request, this.options.outputPrice * (tokens - paid))
  }

  /** The request goes back into the queue. */
  putBack(request: RequestView): void {
    if (this.stageOf(request.slot) < Stage.started) this.settle(request, true)
  }

  end(request: RequestView, reason: Reason): void {
    const stage = this.stageOf(request.slot)
    this.settle(request, stage < Stage.placed || (stage < Stage.started && !ownEnds.has(reason)))
  }

  private stageOf(slot: number): number {
    return this.stage[slot] ?? Stage.none
  }

  private reach(slot: number, stage: number): void {
    if (slot >= this.stage.length) {
      this.stage = grow(this.stage, slot, bytes)
      this.input = grow(this.input, slot, floats)
      this.ahead = grow(this.ahead, slot, floats)
    }
    this.stage[slot] = stage
  }

  private advance(request: RequestView, stage: number, inputTokens: number, pool: PoolView): void {
    const { slot } = request
    const { inputPrice, outputPrice, predict } = this.options
    const from = this.stageOf(slot)
    if (from === Stage.started) return
    this.reach(slot, stage)
    if (from === Stage.none && predict) this.ahead[slot] = Math.round(pool.forecast.meanOutputTokens(request))
    const aheadCost = from === Stage.none ? outputPrice * this.ahead[slot]! : 0
    const inputCost = inputPrice * (inputTokens - this.input[slot]!)
    this.input[slot] = inputTokens
    this.charge(request, inputCost + aheadCost)
  }

  /** Forgets the request, with a refund of the output that did not come, and of the prompt if `unserved`. */
  private settle(request: RequestView, unserved: boolean): void {
    const { slot } = request
    if (this.stageOf(slot) === Stage.none) return
    const { inputPrice, outputPrice } = this.options
    const inputCost = unserved ? inputPrice * this.input[slot]! : 0
    this.charge(request, -inputCost - outputPrice * this.ahead[slot]!)
    this.stage[slot] = Stage.none
    this.input[slot] = 0
    this.ahead[slot] = 0
  }

  private charge(request: RequestView, cost: number): void {
    if (cost !== 0) this.pay(request, cost)
  }
}
