import { floats, grow } from "../structures/grow.ts"

/** Memories after which sums are brought up to date: e²⁰ leaves them exact enough. */
const REBASE = 20

/**
 * How much prefill was placed at each worker lately: Σ ms · e^(−age / memory). It tells two things that pending prompts do not: what those who
 * decode there have lost to prompts already, and where sessions and shared prefixes that are at work are going to send more.
 * Memory: 8 bytes a worker. O(1), now and then O(N).
 */
export class RecentPrefill {
  /** By worker, times `factor` what counts; 0 beyond its end. */
  private sums = new Float64Array(0)
  private readonly memoryMs: number
  private asOfMs = 0
  /** The last factor, and of when: many ask at one moment. */
  private lastFactor = 1
  private lastMs = 0

  constructor(memoryMs: number) {
    this.memoryMs = memoryMs
  }

  /** `nowMs` never decreases. */
  private factor(nowMs: number): number {
    if (nowMs !== this.lastMs) {
      this.lastFactor = Math.exp((this.asOfMs - nowMs) / this.memoryMs)
      this.lastMs = nowMs
    }
    return this.lastFactor
  }

  /** The share of its time that a worker was given prefill for; at most 1. */
  shareAt(worker: number, nowMs: number): number {
    return worker < this.sums.length
      ? Math.min(1, (this.sums[worker]! * this.factor(nowMs)) / this.memoryMs)
      : 0
  }

  /** The share of all the time of the workers slots[0 .. count) that they were given prefill for; at most 1. */
  share(slots: Int32Array, count: number, nowMs: number): number {
    let sum = 0
    for (let i = 0; i < count; i++) sum += slots[i]! < this.sums.length ? this.sums[slots[i]!]! : 0
    return Math.min(1, (sum * this.factor(nowMs)) / (Math.max(1, count) * this.memoryMs))
  }

  add(worker: number, prefillMs: number, nowMs: number): void {
    if (worker >= this.sums.length) this.sums = grow(this.sums, worker, floats)
    if (nowMs - this.asOfMs > REBASE * this.memoryMs) {
      const factor = this.factor(nowMs)
      for (let i = 0; i < this.sums.length; i++) this.sums[i]! *= factor
      this.asOfMs = nowMs
      this.lastFactor = 1
    }
    this.sums[worker]! += prefillMs / this.factor(nowMs)
  }

  forget(worker: number): void {
    if (worker < this.sums.length) this.sums[worker] = 0
  }
}
