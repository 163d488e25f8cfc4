import type { WorkerColumns } from "../domain/PoolView.ts"
import { mix } from "../structures/hash.ts"

/**
 * Finds the worker of least cost among those offered since `start`. Ties go to the highest rendezvous score of (key, worker key), so that
 * requests of one key agree and different keys spread. Allocates nothing; costs are not NaN.
 */
export class LeastCost {
  /** -1 before the first offer. */
  worker = -1
  cost = Number.POSITIVE_INFINITY
  private score = -1
  private keyState = 0

  /** Forgets all offers. `keyState` is the hash state of the key that settles ties, such as `requestState`. */
  start(keyState: number): void {
    this.worker = -1
    this.cost = Number.POSITIVE_INFINITY
    this.score = -1
    this.keyState = keyState
  }

  offer({ keyHigh, keyLow }: WorkerColumns, worker: number, cost: number): void {
    if (cost > this.cost) return
    const score = mix(this.keyState, keyHigh[worker]!, keyLow[worker]!)
    if (cost === this.cost && score <= this.score) return
    this.worker = worker
    this.cost = cost
    this.score = score
  }
}
