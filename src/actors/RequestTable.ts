import type { RequestView } from "../domain/RequestView.ts"
import { assert } from "../structures/assert.ts"
import { SLOTS_MAX } from "../structures/SlotLists.ts"

/** Small: memory follows the requests in flight. */
const SLOTS_MIN = 128

/** What became of a slot. An ended one has had its terminal; it is given back once the balancer has released its load. */
export const Phase = { free: 0, open: 1, ended: 2 } as const

/**
 * The facts of one request: what was received and sent. Its slot's next request gets the same object, with a new ticket.
 * `Client` and `Holder` are whatever the process has for the two ends: links where it is live. The balancer's core never looks at them.
 */
export class Request<Client = unknown, Holder = unknown> implements RequestView {
  readonly slot: number
  phase: number = Phase.free
  /** The link it came from, until it has ended. */
  client: Client | undefined = undefined
  /** The link that holds its live attempt. */
  holder: Holder | undefined = undefined
  /** Counts the uses of the slot. Never 0 while in use, so that no stream id is 0. */
  ticket = 0
  /** As the client named it, on its connection. */
  clientStream = 0
  /** Attempts made so far; the live one has this number. */
  attempts = 0
  /** Whether it was admitted. */
  accepted = false
  /** Index of the next token to deliver, which is the count of delivered ones. */
  nextIndex = 0
  /** Tokens with an index below this may be sent. */
  creditUpTo = 0
  /** Why the live attempt failed, as a `Reason`; set before the balancer is told. */
  failure = 0
  /** What the worker said when the last attempt failed. */
  message: string | undefined
  /** Whether the client gave it up, or is gone. */
  cancelled = false
  flags = 0
  idHigh = 0
  idLow = 0
  tenant = 0
  model = 0
  class = 0
  promptTokens = 0
  maxTokens = 0
  sessionHigh = 0
  sessionLow = 0
  arrivedMs = 0
  deadlineMs = 0
  /** From DONE. */
  outputTokens = 0
  cachedTokens = 0

  constructor(slot: number) {
    this.slot = slot
  }

  /** The attempt to be decided on. */
  get attempt(): number {
    return this.attempts + 1
  }

  /** How the request is known outside its slot: `ticket << 16 | slot`. */
  get stream(): number {
    return ((this.ticket << 16) | this.slot) >>> 0
  }
}

/**
 * The facts of every request in the process, by slot.
 *
 * They belong to the links and survive a crash of the balancer, which decides. Tickets count the uses of a slot, so a late frame or
 * message of an earlier use is told by its stream id. Slots are reused first in, first out, and the table grows by doubling, so at
 * least 8 million requests pass before a stream id comes again.
 *
 * One object per slot, made once: a frame touches most facts of one request, which lie together in memory. Columns would cost a cache
 * miss for each of them.
 */
export class RequestTable<Client = unknown, Holder = unknown> {
  /** Slots in use. */
  size = 0
  private readonly rows: Array<Request<Client, Holder>> = []
  private readonly limit: number
  /** Ring of free slots; its length is a power of two. */
  private free = new Uint16Array(0)
  private freeAt = 0
  private freeCount = 0

  /** `limit` slots at most, and no more than fit into 16 bits: so many has a slot number, and the ticket that tells its uses apart. */
  constructor(limit: number) {
    assert(limit >= 1 && limit <= SLOTS_MAX, `the request limit lies between 1 and ${SLOTS_MAX}`)
    this.limit = limit
    this.grow(SLOTS_MIN)
  }

  /** Slots there are. */
  get capacity(): number {
    return this.rows.length
  }

  /** The request in a slot, or the last that was there. */
  at(slot: number): Request<Client, Holder> {
    return this.rows[slot]!
  }

  /** An open request with a fresh ticket and nothing delivered, or undefined when `limit` are held. The caller fills in the rest. */
  allocate(): Request<Client, Holder> | undefined {
    if (this.size >= this.limit) return undefined
    if (this.freeCount === 0) this.grow(this.capacity * 2)
    const request = this.rows[this.free[this.freeAt]!]!
    this.freeAt = (this.freeAt + 1) & (this.free.length - 1)
    this.freeCount--
    this.size++
    request.ticket = request.ticket === 0xffff ? 1 : request.ticket + 1
    request.phase = Phase.open
    request.attempts = 0
    request.accepted = false
    request.nextIndex = 0
    request.failure = 0
    request.message = undefined
    request.cancelled = false
    request.outputTokens = 0
    request.cachedTokens = 0
    return request
  }

  /** Gives a slot back. */
  release(slot: number): void {
    const request = this.at(slot)
    assert(request.phase !== Phase.free, "a slot is released once")
    request.phase = Phase.free
    this.free[(this.freeAt + this.freeCount) & (this.free.length - 1)] = slot
    this.freeCount++
    this.size--
  }

  /** The request with this stream id, or undefined when it is gone. */
  find(stream: number): Request<Client, Holder> | undefined {
    const request = this.rows[stream & 0xffff]
    return request !== undefined && request.ticket === stream >>> 16 && request.phase !== Phase.free
      ? request
      : undefined
  }

  /** Adds free slots. Called when there are none. */
  private grow(size: number): void {
    assert(size <= SLOTS_MAX, "the table grows within its limit")
    this.free = new Uint16Array(size)
    this.freeAt = 0
    for (let slot = this.capacity; slot < size; slot++) {
      this.free[this.freeCount++] = slot
      this.rows.push(new Request(slot))
    }
  }
}

assert(Number.isInteger(Math.log2(SLOTS_MAX / SLOTS_MIN)), "doubling ends at the limit")
