import { assert } from "./assert.ts"
import { floats, grow } from "./grow.ts"
import { SLOTS_MAX } from "./SlotLists.ts"

/** A value and the time of its last sample for each slot. 16 bytes for each slot up to the largest that had a sample. */
class Averages {
  protected readonly tauMs: number
  protected values = new Float64Array(0)
  private sampledMs = new Float64Array(0)

  /** A sample counts 1/e of what it did once `tauMs` (> 0) has passed. */
  constructor(tauMs: number) {
    this.tauMs = tauMs
  }

  /** Forgets the samples of a slot. */
  reset(slot: number): void {
    if (slot >= this.values.length) return
    this.values[slot] = 0
    this.sampledMs[slot] = Number.NEGATIVE_INFINITY
  }

  /** What is left at `nowMs` of the weight of everything before the last sample; 0 before the first. */
  protected left(slot: number, nowMs: number): number {
    return slot < this.values.length ? Math.exp((this.sampledMs[slot]! - nowMs) / this.tauMs) : 0
  }

  protected put(slot: number, value: number, nowMs: number): void {
    if (slot >= this.values.length) {
      assert(slot < SLOTS_MAX, "slots are below 65 536")
      this.values = grow(this.values, slot, floats)
      this.sampledMs = grow(this.sampledMs, slot, never)
    }
    this.values[slot] = value
    this.sampledMs[slot] = nowMs
  }
}

/** A double below this is rounded so coarsely that steps which take a little off it take nothing: what is left would stay for ever. */
const LEAST = 2 ** -1022

const never = (length: number): Float64Array<ArrayBuffer> =>
  new Float64Array(length).fill(Number.NEGATIVE_INFINITY)

/**
 * For each slot the average of its samples, each weighted by the time since the one before. The first sample is the average; two at the
 * same time are one, the first. Times never decrease.
 */
export class Ewma extends Averages {
  /** 0 before the first sample. */
  at(slot: number): number {
    return this.values[slot] ?? 0
  }

  record(slot: number, sample: number, nowMs: number): void {
    const rest = (this.at(slot) - sample) * this.left(slot, nowMs)
    this.put(slot, Math.abs(rest) < LEAST ? sample : sample + rest, nowMs)
  }
}

/**
 * For each slot an average that goes up to a higher sample at once and comes down slowly: within Δ by a factor e^(−Δ/tau) at most. Without
 * samples it comes down to 0, so that what was slow once is tried again. Samples are not negative; times never decrease.
 *
 * Source: Finagle, `loadbalancer/PeakEwma.scala`; tower, `load/peak_ewma.rs`.
 */
export class PeakEwma extends Averages {
  /** 0 before the first sample; at most the largest one since. */
  at(slot: number, nowMs: number): number {
    return (this.values[slot] ?? 0) * this.left(slot, nowMs)
  }

  record(slot: number, sample: number, nowMs: number): void {
    const left = this.left(slot, nowMs)
    this.put(slot, Math.max(sample, (this.values[slot] ?? 0) * left + sample * (1 - left)), nowMs)
  }
}
