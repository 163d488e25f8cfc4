import type { PoolView } from "../domain/PoolView.ts"

/**
 * Most requests that each eligible worker may have in flight, one more than there are included: ⌈factor · (n + 1) · speed / Σ speed⌉ with n
 * all that are in flight on eligible workers. With a factor ≥ 1 some worker always has room. O(N) to measure.
 */
export class LoadBound {
  private speedMax = 0
  private perSpeed = 0

  measure({ workers: { speed, inFlight }, eligible, eligibleCount }: PoolView, factor: number): void {
    let inFlightSum = 0
    let speedMax = 0
    for (let i = 0; i < eligibleCount; i++) {
      const worker = eligible[i]!
      inFlightSum += inFlight[worker]!
      speedMax = Math.max(speedMax, speed[worker]!)
    }
    // Relative to the fastest, so that the sum is finite whatever the unit of speed.
    let speedSum = 0
    for (let i = 0; i < eligibleCount; i++) speedSum += speed[eligible[i]!]! / speedMax
    this.speedMax = speedMax
    this.perSpeed = (factor * (inFlightSum + 1)) / speedSum
  }

  /** Whether one more request keeps the worker within its bound. */
  hasRoom({ workers: { speed, inFlight } }: PoolView, worker: number): boolean {
    return inFlight[worker]! < Math.ceil(this.perSpeed * (speed[worker]! / this.speedMax))
  }
}
