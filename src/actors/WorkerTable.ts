import { Role, type WorkerColumns } from "../domain/PoolView.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import { pendingStepsMs } from "../policies/costs.ts"
import { WorkerEstimates } from "../policies/estimators/WorkerEstimates.ts"
import { assert } from "../structures/assert.ts"
import { bytes, floats, ints, words } from "../structures/grow.ts"
import { hash64 } from "../structures/hash.ts"

/** A worker as it registers. Left out, it does all of a request, has speed 1, and its KV cache and batch are not known. */
export interface Offer {
  /** Its key comes from this. */
  readonly name: string
  readonly role?: keyof typeof Role | undefined
  readonly capacity: number
  readonly maxSequences?: number | undefined
  readonly speed?: number | undefined
  readonly kvCapacityTokens?: number | undefined
}

/** Of one attempt: the sum over all there can be stays a whole number. A prompt of 370,000 tokens reaches it. */
const ATTENTION_MAX = 2 ** 36
/** Of a worker that does not say: as many as it may take attempts. */
const SEQUENCES_MAX = 65_536
/** Of its own word: as many as a column holds. */
const SEQUENCES_TOLD_MAX = 2 ** 31 - 1

/** What one attempt is charged with at its worker. The same numbers are taken off again, whatever was learned in between. */
export class Charge {
  /** The worker that is charged, or was last; -1 for none yet. */
  worker = -1
  /** Whether it is to be taken off. */
  charged = false
  /** Prompt tokens to compute there, and `Σ n·(context + n/2)` of them. */
  uncachedTokens = 0
  attention = 0
  contextTokens = 0
  answerTokens = 0
  started = false
}

/** The columns of `WorkerColumns`, as the balancer keeps them: the last heartbeat, plus what it sent since. */
export class WorkerTable implements WorkerColumns {
  readonly keyHigh: Uint32Array
  readonly keyLow: Uint32Array
  readonly inFlight: Int32Array
  readonly prefilling: Int32Array
  readonly capacity: Int32Array
  readonly maxSequences: Int32Array
  readonly speed: Float64Array
  readonly pendingPrefillTokens: Float64Array
  readonly pendingPrefillAttention: Float64Array
  readonly prefillSinceMs: Float64Array
  readonly prefillDueMs: Float64Array
  readonly contextTokens: Float64Array
  readonly answerTokens: Float64Array
  readonly running: Int32Array
  readonly waiting: Int32Array
  readonly kvUsedTokens: Float64Array
  readonly kvCapacityTokens: Float64Array
  readonly observedAtMs: Float64Array
  readonly baseMs: Float64Array
  readonly prefillTokenMs: Float64Array
  readonly prefillAttentionMs: Float64Array
  readonly decodeSequenceMs: Float64Array
  readonly decodeContextMs: Float64Array
  /** As registered: one of `Role`, and the speed before any derating. */
  readonly role: Uint8Array
  readonly ratedSpeed: Float64Array
  /**
   * Attempts sent to the worker since the balancer started, by why: the `first` of a request, a `retry`, the answer of a split request
   * that was `handed_over`, or by the name of the rescue that sent it.
   */
  readonly assigned = new Map<string, Float64Array>()
  private readonly estimates: WorkerEstimates

  /** `limit` workers at most. */
  constructor(limit: number) {
    this.keyHigh = words(limit)
    this.keyLow = words(limit)
    this.inFlight = ints(limit)
    this.prefilling = ints(limit)
    this.capacity = ints(limit)
    this.maxSequences = ints(limit).fill(SEQUENCES_MAX)
    this.speed = floats(limit)
    this.pendingPrefillTokens = floats(limit)
    this.pendingPrefillAttention = floats(limit)
    this.prefillSinceMs = floats(limit)
    this.prefillDueMs = floats(limit)
    this.contextTokens = floats(limit)
    this.answerTokens = floats(limit)
    this.running = ints(limit)
    this.waiting = ints(limit)
    this.kvUsedTokens = floats(limit)
    this.kvCapacityTokens = floats(limit)
    this.observedAtMs = floats(limit)
    this.baseMs = floats(limit)
    this.prefillTokenMs = floats(limit)
    this.prefillAttentionMs = floats(limit)
    this.decodeSequenceMs = floats(limit)
    this.decodeContextMs = floats(limit)
    this.role = bytes(limit)
    this.ratedSpeed = floats(limit)
    this.estimates = new WorkerEstimates(this)
  }

  get limit(): number {
    return this.inFlight.length
  }

  /** Takes over a heartbeat. Our own counts stay: a worker's word never lowers them. */
  observe(worker: number, load: WorkerLoad, nowMs: number): void {
    this.running[worker] = Math.min(load.running, SEQUENCES_TOLD_MAX)
    this.waiting[worker] = Math.min(load.waiting, SEQUENCES_TOLD_MAX)
    this.kvUsedTokens[worker] = load.kvUsedTokens
    this.kvCapacityTokens[worker] = load.kvCapacityTokens
    this.observedAtMs[worker] = nowMs
    this.estimates.observe(worker, load, nowMs)
  }

  /** A worker registers in a slot, or registers anew. What is charged to it stays. */
  join(
    worker: number,
    { capacity, kvCapacityTokens = 0, maxSequences = SEQUENCES_MAX, name, role = "both", speed = 1 }: Offer,
    nowMs: number
  ): void {
    const key = hash64(name)
    this.keyHigh[worker] = key.high
    this.keyLow[worker] = key.low
    this.role[worker] = Role[role]
    this.capacity[worker] = capacity
    this.maxSequences[worker] = maxSequences
    this.ratedSpeed[worker] = speed
    this.kvCapacityTokens[worker] = kvCapacityTokens
    this.estimates.joined(worker, nowMs)
  }

  countAssigned(worker: number, why: string): void {
    let counts = this.assigned.get(why)
    if (counts === undefined) this.assigned.set(why, (counts = floats(this.limit)))
    counts[worker]!++
  }

  /** Forgets every charge: the requests are going to be announced anew. */
  uncharge(): void {
    this.inFlight.fill(0)
    this.prefilling.fill(0)
    this.pendingPrefillTokens.fill(0)
    this.pendingPrefillAttention.fill(0)
    this.contextTokens.fill(0)
    this.answerTokens.fill(0)
  }

  /** Charges an attempt of `promptTokens`, of which the worker holds `cachedTokens`, with an answer of about `outputTokens`. */
  charge(
    charge: Charge,
    worker: number,
    promptTokens: number,
    cachedTokens: number,
    outputTokens: number,
    nowMs: number
  ): void {
    assert(!charge.charged, "an attempt is charged once")
    const n = promptTokens - cachedTokens
    charge.worker = worker
    charge.charged = true
    charge.started = false
    charge.uncachedTokens = n
    // Whole numbers, so that what is taken off leaves exactly what was there.
    charge.attention = Math.min(ATTENTION_MAX, Math.round(n * (cachedTokens + n / 2)))
    charge.answerTokens = Math.round(outputTokens)
    charge.contextTokens = promptTokens + charge.answerTokens
    this.inFlight[worker]!++
    this.pendingPrefillTokens[worker]! += n
    this.pendingPrefillAttention[worker]! += charge.attention
    this.contextTokens[worker]! += charge.contextTokens
    this.answerTokens[worker]! += charge.answerTokens
    if (this.prefilling[worker]!++ === 0) this.beginPrefill(worker, nowMs)
  }

  /** The attempt produced its first token: its prompt is no longer pending. */
  started(charge: Charge, nowMs: number): void {
    assert(!charge.started, "an attempt starts once")
    this.endPrefill(charge)
    this.beginPrefill(charge.worker, nowMs)
  }

  /** Takes the charge off. */
  release(charge: Charge): void {
    const { worker } = charge
    assert(charge.charged, "a charge is released once")
    if (!charge.started) this.endPrefill(charge)
    this.inFlight[worker]!--
    this.contextTokens[worker]! -= charge.contextTokens
    this.answerTokens[worker]! -= charge.answerTokens
    charge.charged = false
  }

  /** Whether the worker takes one more attempt. */
  hasRoom(worker: number): boolean {
    return this.inFlight[worker]! < this.capacity[worker]!
  }

  /** What is pending there is computed from now on. */
  private beginPrefill(worker: number, nowMs: number): void {
    this.prefillSinceMs[worker] = nowMs
    this.prefillDueMs[worker] = nowMs + pendingStepsMs(this, worker)
  }

  private endPrefill(charge: Charge): void {
    const { attention, uncachedTokens, worker } = charge
    charge.started = true
    this.prefilling[worker]!--
    this.pendingPrefillTokens[worker]! -= uncachedTokens
    this.pendingPrefillAttention[worker]! -= attention
  }
}
