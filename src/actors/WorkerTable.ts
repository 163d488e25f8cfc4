import type { WorkerColumns } from "../domain/PoolView.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import { assert } from "../structures/assert.ts"

/** The columns of `WorkerColumns`, as the balancer keeps them: the last heartbeat, plus what it sent since. */
export class WorkerTable implements WorkerColumns {
  readonly keyHigh: Uint32Array
  readonly keyLow: Uint32Array
  readonly inFlight: Int32Array
  readonly capacity: Int32Array
  readonly speed: Float64Array
  readonly pendingPromptTokens: Float64Array
  readonly running: Int32Array
  readonly waiting: Int32Array
  readonly kvUsedTokens: Float64Array
  readonly kvCapacityTokens: Float64Array
  readonly observedAtMs: Float64Array
  /** Attempts sent to the worker since the balancer started. */
  readonly assigned: Float64Array

  /** `limit` workers at most. */
  constructor(limit: number) {
    this.keyHigh = new Uint32Array(limit)
    this.keyLow = new Uint32Array(limit)
    this.inFlight = new Int32Array(limit)
    this.capacity = new Int32Array(limit)
    this.speed = new Float64Array(limit)
    this.pendingPromptTokens = new Float64Array(limit)
    this.running = new Int32Array(limit)
    this.waiting = new Int32Array(limit)
    this.kvUsedTokens = new Float64Array(limit)
    this.kvCapacityTokens = new Float64Array(limit)
    this.observedAtMs = new Float64Array(limit)
    this.assigned = new Float64Array(limit)
  }

  get limit(): number {
    return this.inFlight.length
  }

  /** Takes over a heartbeat. Our own counts stay: a worker's word never lowers them. */
  observe(worker: number, load: WorkerLoad, nowMs: number): void {
    this.running[worker] = load.running
    this.waiting[worker] = load.waiting
    this.kvUsedTokens[worker] = load.kvUsedTokens
    this.kvCapacityTokens[worker] = load.kvCapacityTokens
    this.observedAtMs[worker] = nowMs
  }

  charge(worker: number, promptTokens: number): void {
    this.inFlight[worker]!++
    this.pendingPromptTokens[worker]! += promptTokens
    this.assigned[worker]!++
  }

  /** The attempt produced its first token: its prompt is no longer pending. */
  prefilled(worker: number, promptTokens: number): void {
    this.pendingPromptTokens[worker]! -= promptTokens
    assert(this.pendingPromptTokens[worker]! >= 0, "a prompt is pending once")
  }

  release(worker: number): void {
    this.inFlight[worker]!--
    assert(this.inFlight[worker]! >= 0, "load is released once")
  }

  /** Whether the worker takes one more attempt. */
  hasRoom(worker: number): boolean {
    return this.inFlight[worker]! < this.capacity[worker]!
  }
}
