import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import type { Admission, QueueView } from "../policies/Admission.ts"
import type { Ordering } from "../policies/Ordering.ts"
import type { Placement } from "../policies/Placement.ts"
import type { WorkerTable } from "./WorkerTable.ts"

/** The policies of one pool: one value per decision point. */
export interface Pipeline {
  readonly admission: Admission
  readonly ordering: Ordering
  readonly placement: Placement
}

/** Weight of the newest gap in the moving average of gaps between departures. */
const GAP_WEIGHT = 0.05

/**
 * One model's workers and queue, as the balancer decides over them.
 *
 * `eligible` holds the ready workers with room, sorted by key: adding and removing one costs a binary search and one move of memory.
 */
export class BalancerPool implements PoolView, QueueView {
  readonly workers: WorkerTable
  readonly eligible: Int32Array
  eligibleCount = 0
  readyCount = 0
  queuedPromptTokens = 0
  readonly policies: Pipeline
  private readonly ready: Uint8Array
  private readonly listed: Uint8Array
  private gapMs = 0
  private departedMs = -1

  constructor(workers: WorkerTable, policies: Pipeline) {
    this.workers = workers
    this.policies = policies
    this.eligible = new Int32Array(workers.limit)
    this.ready = new Uint8Array(workers.limit)
    this.listed = new Uint8Array(workers.limit)
  }

  get queuedCount(): number {
    return this.policies.ordering.size()
  }

  /** Queue length × the usual gap between departures; 0 while a worker has room or nothing was measured. */
  get expectedWaitMs(): number {
    if (this.eligibleCount > 0) return 0
    return this.readyCount === 0 ? Infinity : (this.queuedCount + 1) * this.gapMs
  }

  /** Whether `worker` may get new work, by the word of the pool manager. */
  setReady(worker: number, ready: boolean): void {
    if ((this.ready[worker] === 1) === ready) return
    this.ready[worker] = ready ? 1 : 0
    this.readyCount += ready ? 1 : -1
    this.refresh(worker)
  }

  /** Lists or unlists `worker` after its readiness or its room changed. */
  refresh(worker: number): void {
    const listed = this.ready[worker] === 1 && this.workers.hasRoom(worker)
    if ((this.listed[worker] === 1) === listed) return
    this.listed[worker] = listed ? 1 : 0
    const at = this.rank(worker)
    const { eligible, eligibleCount } = this
    if (listed) {
      eligible.copyWithin(at + 1, at, eligibleCount)
      eligible[at] = worker
      this.eligibleCount++
    } else {
      eligible.copyWithin(at, at + 1, eligibleCount)
      this.eligibleCount--
    }
  }

  /** Asks the placement policy. `avoided`, the worker that just failed the request (-1 for none), counts only if it is alone. */
  pick(request: RequestView, avoided: number, nowMs: number): number {
    const { placement } = this.policies
    if (avoided < 0 || this.listed[avoided] === 0 || this.eligibleCount < 2)
      return placement.pick(request, this, nowMs)
    const at = this.rank(avoided)
    const { eligible } = this
    eligible.copyWithin(at, at + 1, this.eligibleCount--)
    const picked = placement.pick(request, this, nowMs)
    eligible.copyWithin(at + 1, at, this.eligibleCount++)
    eligible[at] = avoided
    return picked
  }

  /** An attempt ended. Says whether requests wait; the gaps between such ends tell how fast the queue moves. */
  departed(nowMs: number): boolean {
    const waiting = this.queuedCount > 0
    if (waiting && this.departedMs >= 0) {
      const gap = nowMs - this.departedMs
      this.gapMs = this.gapMs === 0 ? gap : this.gapMs + GAP_WEIGHT * (gap - this.gapMs)
    }
    this.departedMs = waiting ? nowMs : -1
    return waiting
  }

  /** Where `worker` stands, or would stand, among the eligible. */
  private rank(worker: number): number {
    const { keyHigh, keyLow } = this.workers
    const high = keyHigh[worker]!
    const low = keyLow[worker]!
    let from = 0
    let to = this.eligibleCount
    while (from < to) {
      const middle = (from + to) >>> 1
      const other = this.eligible[middle]!
      const before =
        keyHigh[other]! < high ||
        (keyHigh[other] === high && (keyLow[other]! < low || (keyLow[other] === low && other < worker)))
      if (before) from = middle + 1
      else to = middle
    }
    return from
  }
}
