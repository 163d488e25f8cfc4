const FINE_COUNT = 1 << 17
const COARSE_COUNT = 60_000

/** A histogram of latencies with buckets of 1 µs up to 131 ms and of 1 ms up to a minute. Recording costs about 2 ns. */
export class Latencies {
  private readonly fine = new Uint32Array(FINE_COUNT)
  private readonly coarse = new Uint32Array(COARSE_COUNT)
  private count = 0

  record(latencyMs: number): void {
    const us = (latencyMs * 1000) | 0
    if (us < FINE_COUNT) this.fine[us]!++
    else this.coarse[Math.min(COARSE_COUNT - 1, latencyMs | 0)]!++
    this.count++
  }

  clear(): void {
    this.fine.fill(0)
    this.coarse.fill(0)
    this.count = 0
  }

  /** The latency, in µs, that the share `q` of the recorded ones do not exceed; NaN when there are none. */
  quantileUs(q: number): number {
    if (this.count === 0) return Number.NaN
    let left = Math.ceil(q * this.count)
    for (let i = 0; i < FINE_COUNT; i++) if ((left -= this.fine[i]!) <= 0) return i
    for (let i = 0; i < COARSE_COUNT; i++) if ((left -= this.coarse[i]!) <= 0) return i * 1000
    return Number.NaN
  }
}
