import type { PoolView, WorkerColumns } from "../domain/PoolView.ts"
import { mix } from "../structures/hash.ts"
import { weightedScore } from "./affinity.ts"

/**
 * Finds the worker whose weighted score for a key is the highest of those offered since `start`, the speed being the weight. Of equal scores
 * the one offered first stays. Allocates nothing.
 */
export class FirstChoice {
  /** -1 before the first offer. */
  worker = -1
  private keyState = 0
  private score = -1
  private hash = -1
  private speed = 0

  /** Forgets all offers. `keyState` is the hash state of the key. */
  start(keyState: number): void {
    this.worker = -1
    this.keyState = keyState
    this.score = this.hash = -1
    this.speed = 0
  }

  /** Among all eligible workers; -1 when there are none. */
  amongAll(keyState: number, { workers, eligible, eligibleCount }: PoolView): number {
    this.start(keyState)
    for (let i = 0; i < eligibleCount; i++) this.offer(workers, eligible[i]!)
    return this.worker
  }

  offer({ keyHigh, keyLow, speed: speeds }: WorkerColumns, worker: number): void {
    const hash = mix(this.keyState, keyHigh[worker]!, keyLow[worker]!)
    const speed = speeds[worker]!
    // With less of both, the score is no higher: among equal speeds, few logarithms are ever taken.
    if (hash <= this.hash && speed <= this.speed) return
    const score = weightedScore(hash, speed)
    if (score <= this.score) return
    this.worker = worker
    this.score = score
    this.hash = hash
    this.speed = speed
  }
}
