import type { RequestView } from "../domain/RequestView.ts"
import { mixBlock } from "../structures/PrefixChain.ts"

/** A power of two. */
const ROWS = 4096

/**
 * What requests have lost by following a prefix to where it is cached, in ms, by prefix. It fades: what was lost long ago says little of
 * what is to come.
 *
 * A table of hashes. Of two prefixes that share a row the one that has lost more keeps it. Memory: 80 kB. O(1).
 */
export class PrefixDebts {
  private readonly patienceMs: number
  private readonly prefixes = new Int32Array(ROWS)
  private readonly lostMs = new Float64Array(ROWS)
  private readonly asOfMs = new Float64Array(ROWS)
  /** The prefix that was asked about last, and what is left in its row. */
  private prefix = 0
  private leftMs = 0

  /** After `patienceMs` e times less is left. */
  constructor(patienceMs: number) {
    this.patienceMs = patienceMs
  }

  /** Of the prefix that the first `heldTokens` > 0 of a request make. `nowMs` never decreases. */
  of({ chain }: RequestView, heldTokens: number, blockTokens: number, nowMs: number): number {
    const prefix = mixBlock(0, chain, Math.ceil(heldTokens / blockTokens) - 1) | 0
    const row = prefix & (ROWS - 1)
    this.prefix = prefix
    this.leftMs = this.lostMs[row]! * Math.exp((this.asOfMs[row]! - nowMs) / this.patienceMs)
    return this.prefixes[row] === prefix ? this.leftMs : 0
  }

  /** From now on so much was lost by the prefix that was asked about last. */
  set(lostMs: number, nowMs: number): void {
    const { prefix } = this
    const row = prefix & (ROWS - 1)
    if (this.prefixes[row] !== prefix && this.leftMs > lostMs) return
    this.prefixes[row] = prefix
    this.lostMs[row] = lostMs
    this.asOfMs[row] = nowMs
  }
}
