import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { ArrivalLists } from "../structures/ArrivalLists.ts"
import { assert } from "../structures/assert.ts"
import { floats, grow } from "../structures/grow.ts"
import { Heaps } from "../structures/Heaps.ts"
import { SLOTS_MAX } from "../structures/SlotLists.ts"
import type { Ordering } from "./Ordering.ts"

/** Queues of requests side by side, one for each tenant say. A request is in one of them at most, and kept while it is there. */
export abstract class RequestQueues {
  /** Queued requests, of all queues. */
  size = 0
  private readonly count: number
  private readonly requests: Array<RequestView> = []

  constructor(count: number) {
    this.count = count
  }

  /** Slot of the request that is next in a queue, or -1 when it is empty. */
  abstract first(queue: number): number

  /** The queue a slot is in, or -1. */
  abstract queueOf(slot: number): number

  /** The request in a queued slot. */
  at(slot: number): RequestView {
    return this.requests[slot]!
  }

  /** Adds a request; its slot must not be queued. */
  add(queue: number, request: RequestView, pool: PoolView): void {
    this.keep(queue, request, pool, false)
  }

  /** Adds a request that was placed and did not start: it goes before its equals. */
  putBack(queue: number, request: RequestView, pool: PoolView): void {
    this.keep(queue, request, pool, true)
  }

  /** Takes a slot out; false when it was in no queue. */
  remove(slot: number): boolean {
    const queued = this.take(slot)
    if (queued) this.size--
    return queued
  }

  protected abstract insert(queue: number, request: RequestView, pool: PoolView, back: boolean): void
  protected abstract take(slot: number): boolean

  private keep(queue: number, request: RequestView, pool: PoolView, back: boolean): void {
    const { slot } = request
    assert(slot < SLOTS_MAX, "slots are below 65 536")
    assert(queue < this.count, "a request is put into one of the queues there are")
    assert(this.queueOf(slot) < 0, "a slot is queued once")
    this.insert(queue, request, pool, back)
    this.requests[slot] = request
    this.size++
  }
}

/** Queues served by arrival. O(1), but O(requests put back) for one put back out of order. */
export class ArrivalQueues extends RequestQueues {
  private readonly lists: ArrivalLists

  constructor(count: number) {
    super(count)
    this.lists = new ArrivalLists(count)
  }

  first(queue: number): number {
    return this.lists.first(queue)
  }

  queueOf(slot: number): number {
    return this.lists.listOf(slot)
  }

  protected insert(queue: number, { arrivedMs, slot }: RequestView, _pool: PoolView, back: boolean): void {
    if (back) this.lists.putBack(queue, slot, arrivedMs)
    else this.lists.add(queue, slot, arrivedMs)
  }

  protected take(slot: number): boolean {
    return this.lists.remove(slot)
  }
}

type Key = (request: RequestView, pool: PoolView) => number

/**
 * Queues served by `major`, least first, then by `minor`; then by arrival, and those put back first. Keys are worked out when a request
 * is added, and stand while it waits. O(log n) in the requests of a queue.
 */
export class KeyedQueues extends RequestQueues {
  private readonly heaps: Heaps
  private readonly major: Key
  private readonly minor: Key
  private majors = new Float64Array(0)
  private minors = new Float64Array(0)
  private arrivedMs = new Float64Array(0)
  /** When a slot was added, as a count; negative for one put back. */
  private added = new Float64Array(0)
  private additions = 0

  constructor(count: number, major: Key, minor: Key) {
    super(count)
    this.heaps = new Heaps(count, (a, b) => this.before(a, b))
    this.major = major
    this.minor = minor
  }

  first(queue: number): number {
    return this.heaps.first(queue)
  }

  queueOf(slot: number): number {
    return this.heaps.heapOf(slot)
  }

  /** Whether queued slot `a` goes before queued slot `b`, were they in one queue. */
  before(a: number, b: number): boolean {
    const { added, arrivedMs, majors, minors } = this
    if (majors[a] !== majors[b]) return majors[a]! < majors[b]!
    if (minors[a] !== minors[b]) return minors[a]! < minors[b]!
    if (arrivedMs[a] !== arrivedMs[b]) return arrivedMs[a]! < arrivedMs[b]!
    return added[a]! < added[b]!
  }

  /** Works out anew what a queued slot is ordered by first. Says whether that changed. */
  rekey(slot: number, pool: PoolView): boolean {
    const major = this.major(this.at(slot), pool)
    if (major === this.majors[slot]) return false
    this.majors[slot] = major
    this.heaps.update(slot)
    return true
  }

  /** Moves a queued slot to another queue, with what orders it. */
  move(slot: number, queue: number): void {
    this.heaps.remove(slot)
    this.heaps.insert(queue, slot)
  }

  protected insert(queue: number, request: RequestView, pool: PoolView, back: boolean): void {
    const { arrivedMs, slot } = request
    if (slot >= this.added.length) this.growTo(slot)
    this.majors[slot] = this.major(request, pool)
    this.minors[slot] = this.minor(request, pool)
    this.arrivedMs[slot] = arrivedMs
    this.added[slot] = back ? -++this.additions : ++this.additions
    this.heaps.insert(queue, slot)
  }

  protected take(slot: number): boolean {
    return this.heaps.remove(slot)
  }

  private growTo(slot: number): void {
    this.majors = grow(this.majors, slot, floats)
    this.minors = grow(this.minors, slot, floats)
    this.arrivedMs = grow(this.arrivedMs, slot, floats)
    this.added = grow(this.added, slot, floats)
  }
}

/** The one queue of `oneQueue`. */
const ALL = 0

/** An ordering with one queue for everybody. */
export const oneQueue = (queues: RequestQueues): Ordering => ({
  enqueue: (request, pool) => queues.add(ALL, request, pool),
  requeue: (request, pool) => queues.putBack(ALL, request, pool),
  next: () => {
    const slot = queues.first(ALL)
    queues.remove(slot)
    return slot
  },
  remove: (slot) => queues.remove(slot),
  size: () => queues.size
})
