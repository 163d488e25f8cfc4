import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { bytes, floats, grow } from "../structures/grow.ts"
import { expectedCost, type TokenPrices } from "./demand.ts"

/**
 * What requests are expected to cost, in prices × tokens: declared when they are queued, held to until they end, at least 1. Paid when a
 * request is given out, and given back when it goes back into the queue. 17 bytes a slot.
 */
export class DeclaredCosts {
  private readonly prices: TokenPrices
  private cost = new Float64Array(0)
  private paid = new Float64Array(0)
  private placed = new Uint8Array(0)

  constructor(prices: TokenPrices) {
    this.prices = prices
  }

  /** Takes down what a request costs, unless that was paid. */
  declare(request: RequestView, pool: PoolView): void {
    const { slot } = request
    if (slot >= this.cost.length) {
      this.cost = grow(this.cost, slot, floats)
      this.paid = grow(this.paid, slot, floats)
      this.placed = grow(this.placed, slot, bytes)
    }
    if (this.isPaid(slot)) return
    this.cost[slot] = expectedCost(request, pool, this.prices, pool.forecast.meanOutputTokens(request))
  }

  /** What a declared request costs. */
  of(slot: number): number {
    return this.cost[slot]!
  }

  isPaid(slot: number): boolean {
    return (this.paid[slot] ?? 0) > 0
  }

  /** Whether it was given out, and neither placed nor put back since. */
  isTaken(slot: number): boolean {
    return this.isPaid(slot) && this.placed[slot] === 0
  }

  /** Pays for a declared request. Returns how much. */
  pay(slot: number): number {
    return (this.paid[slot] = this.cost[slot]!)
  }

  place(slot: number): void {
    if (slot < this.placed.length) this.placed[slot] = 1
  }

  /** Forgets what was paid for a request, because it goes back into the queue or has ended. Returns how much. */
  forget(slot: number): number {
    const paid = this.paid[slot] ?? 0
    if (slot < this.paid.length) {
      this.paid[slot] = 0
      this.placed[slot] = 0
    }
    return paid
  }
}
