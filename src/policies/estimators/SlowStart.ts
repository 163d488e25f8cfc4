import { assert } from "../../structures/assert.ts"
import { grow } from "../../structures/grow.ts"

export interface SlowStartOptions {
  /** How long a worker that joined is spared. */
  readonly windowMs?: number
  /** 1 ramps up in proportion to time; above 1 faster at first. */
  readonly aggression?: number
  /** The share it gets at least. */
  readonly minimum?: number
}

/** Where nothing is said. */
export const SLOW_START_MS = 10_000

/**
 * Ramps up workers that joined, whose caches are cold: of its speed a worker counts max(minimum, (t / window)^(1 / aggression)), t after
 * it joined. Memory: 8 bytes a worker.
 * Source: Envoy, slow start mode.
 */
export class SlowStart {
  private readonly windowMs: number
  private readonly exponent: number
  private readonly minimum: number
  private joinedMs = new Float64Array(0)

  constructor({ windowMs = SLOW_START_MS, aggression = 1, minimum = 0.1 }: SlowStartOptions = {}) {
    assert(windowMs >= 0 && aggression > 0, "a ramp has a length and a shape")
    assert(minimum > 0 && minimum <= 1, "a worker that joined gets a share, at most its own")
    this.windowMs = windowMs
    this.exponent = 1 / aggression
    this.minimum = minimum
  }

  joined(worker: number, nowMs: number): void {
    if (worker >= this.joinedMs.length) this.joinedMs = grow(this.joinedMs, worker, longAgo)
    this.joinedMs[worker] = nowMs
  }

  /** Above 0, at most 1; 1 for a worker that never joined. */
  factor(worker: number, nowMs: number): number {
    const ageMs = nowMs - (this.joinedMs[worker] ?? Number.NEGATIVE_INFINITY)
    if (ageMs >= this.windowMs) return 1
    return Math.max(this.minimum, (Math.max(0, ageMs) / this.windowMs) ** this.exponent)
  }
}

const longAgo = (length: number): Float64Array<ArrayBuffer> =>
  new Float64Array(length).fill(Number.NEGATIVE_INFINITY)
