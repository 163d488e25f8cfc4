import { Reason } from "../domain/Outcome.ts"
import { Role } from "../domain/PoolView.ts"
import type { PrefixChain } from "../domain/PrefixChain.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { assert } from "../structures/assert.ts"
import { ChainBuffer, emptyChain } from "../structures/PrefixChain.ts"
import { SLOTS_MAX } from "../structures/SlotLists.ts"

/** Small: memory follows the requests in flight. */
const SLOTS_MIN = 128
/** Slots that rest before they are used again: far more requests end before a stream id comes again than a late frame can wait. */
const RESTING = 128

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
  /** The link that holds its live attempt, and the number of that; of the last one while none is live. */
  holder: Holder | undefined = undefined
  live = 0
  /** What that attempt does, as a `Role`: all of the request, or one part. */
  part: number = Role.both
  /** The link that keeps the KV cache of the prompt for whoever produces the answer, and by which attempt; while there is one. */
  keeper: Holder | undefined = undefined
  kept = 0
  /** The link that read the prompt of the last attempt, where that is not the one that produces the answer. */
  reader: Holder | undefined = undefined
  /** The link that holds a second live attempt, and its number: they are tied until one of them has a token, is done or fails. */
  tied: Holder | undefined = undefined
  tiedAttempt = 0
  /** Requests that came to the table before it. */
  order = 0
  /** Counts the uses of the slot. Never 0 while in use, so that no stream id is 0. */
  ticket = 0
  /** As the client named it, on its connection. */
  clientStream = 0
  /** Attempts made so far. */
  attempts = 0
  /** Whether it was admitted. */
  accepted = false
  /** Index of the next token to deliver, which is the count of delivered ones. */
  nextIndex = 0
  /** Tokens with an index below this may be sent. */
  creditUpTo = 0
  /** Bytes of TOKEN frames that were relayed, and how many may be. */
  sentBytes = 0
  creditUpToBytes = 0
  /** Why the last attempt ended before DONE; none while it goes on. Set before the balancer is told. */
  failure: Reason = Reason.none
  /** The same of the one of two tied attempts that the other one outlived. */
  tiedFailure: Reason = Reason.none
  /** What the worker said when the last attempt failed. */
  message: string | undefined
  /** Whether the client gave it up, or is gone. */
  cancelled = false
  /** Whether its end is in the totals: a balancer may crash after that, and before it has given the slot back. */
  counted = false
  flags = 0
  idHigh = 0
  idLow = 0
  tenant = 0
  weight = 1
  model = 0
  class = 0
  promptTokens = 0
  /** Empty where no pool keeps a prefix index and requests are not recorded. */
  chain: PrefixChain = emptyChain
  uncachedTokens = 0
  maxTokens = 0
  sessionHigh = 0
  sessionLow = 0
  arrivedMs = 0
  deadlineMs = 0
  /** When the balancer heard of the first token; NaN before. */
  firstMs = Number.NaN
  /** By the clock of the connection that the last frame of tokens came on: when that was. */
  tokenMs = 0
  /** From DONE, or from PREFILLED where the request is split. */
  cachedTokens = 0
  /** What chains of this slot are kept in, once there was one. */
  private buffer: ChainBuffer | undefined = undefined

  constructor(slot: number) {
    this.slot = slot
  }

  /** The attempt to be decided on. */
  get attempt(): number {
    return this.attempts + 1
  }

  get outputTokens(): number {
    return this.nextIndex
  }

  /** How the request is known outside its slot: `ticket << 16 | slot`. */
  get stream(): number {
    return ((this.ticket << 16) | this.slot) >>> 0
  }

  /** Room for its chain, which is to be filled in at once. */
  newChain(): ChainBuffer {
    const buffer = (this.buffer ??= new ChainBuffer())
    this.chain = buffer
    return buffer
  }

  /** Forgets the chain. One that is empty is the same for all, so that this looks at nothing else. */
  dropChain(): void {
    if (this.chain === emptyChain) return
    this.chain = emptyChain
    this.buffer!.clear()
  }

  /** The number of the live attempt that `holder` has; -1 for none. */
  numberAt(holder: Holder): number {
    if (this.holder === holder) return this.live
    return this.tied === holder ? this.tiedAttempt : -1
  }

  /** A new attempt was sent to `holder`, to do `part` of the request: tied to the live one, where there is one. */
  assigned(holder: Holder, part: number = Role.both): void {
    this.attempts++
    if (this.holder === undefined) {
      this.holder = holder
      this.live = this.attempts
      this.part = part
      this.failure = Reason.none
      if (part !== Role.decode) this.reader = undefined
    } else {
      assert(this.tied === undefined && this.holder !== holder, "two attempts are tied, at two workers")
      this.tied = holder
      this.tiedAttempt = this.attempts
    }
  }

  /** The attempt that `holder` has ended before DONE. Says whether another one goes on. */
  left(holder: Holder, reason: Reason): boolean {
    if (this.tied === undefined) {
      this.holder = undefined
      this.failure = reason
      return false
    }
    if (this.holder === holder) {
      this.holder = this.tied
      this.live = this.tiedAttempt
    }
    this.tied = undefined
    this.tiedFailure = reason
    return true
  }

  /** The prompt was read: the attempt is over, and who had it keeps the KV cache. */
  prefilled(): void {
    this.keeper = this.reader = this.holder
    this.kept = this.live
    this.holder = undefined
  }

  /** Nobody is to keep the KV cache any longer. */
  letGo(): void {
    this.keeper = undefined
    this.kept = 0
  }

  /** Its terminal was written: nobody works on it any more. */
  ended(): void {
    this.phase = Phase.ended
    this.holder = undefined
    this.tied = undefined
    this.letGo()
  }
}

/** Puts requests of one table into the order in which they came. */
export const byArrival = (one: Request, other: Request): number => one.order - other.order

/**
 * The facts of every request in the process, by slot.
 *
 * They belong to the links and survive a crash of the balancer, which decides. Tickets count the uses of a slot, so a late frame or
 * message of an earlier use is told by its stream id. Of free slots 128 rest, of the others the last one comes first, so that few
 * requests at a time use few slots: what is kept by slot then stays in the processor's caches. The table grows by doubling. About 8
 * million requests pass before a stream id comes again. Nothing that is decided depends on slots.
 *
 * One object per slot, made once: a frame touches most facts of one request, which lie together in memory. Columns would cost a cache
 * miss for each of them.
 */
export class RequestTable<Client = unknown, Holder = unknown> {
  /** Slots in use. */
  size = 0
  /** Requests that came. */
  private count = 0
  private readonly rows: Array<Request<Client, Holder>> = []
  private readonly limit: number
  private readonly make: (slot: number) => Request<Client, Holder>
  /** Free slots that have rested, the last on top; and a ring of those that rest, which are used when there are no others. */
  private rested = new Uint16Array(0)
  private restedCount = 0
  private readonly resting: Uint16Array
  private restingAt = 0
  private restingCount = 0

  /**
   * `limit` slots at most, and no more than fit into 16 bits: so many has a slot number, and the ticket that tells its uses apart. `make`
   * makes the object of a slot; `resting` is for tests.
   */
  constructor(
    limit: number,
    make: (slot: number) => Request<Client, Holder> = (slot) => new Request(slot),
    resting = RESTING
  ) {
    assert(resting >= 1, "a slot that is given back rests")
    assert(limit >= 1 && limit <= SLOTS_MAX, `the request limit lies between 1 and ${SLOTS_MAX}`)
    this.limit = limit
    this.make = make
    this.resting = new Uint16Array(resting)
    this.grow(SLOTS_MIN)
  }

  /** Slots there are. */
  get capacity(): number {
    return this.rows.length
  }

  /** The requests there are, in the order in which they came, whatever their slots. O(n log n), into a new array: for what is rare. */
  all(): Array<Request<Client, Holder>> {
    return this.rows.filter(({ phase }) => phase !== Phase.free).toSorted(byArrival)
  }

  /** The request in a slot, or the last that was there. */
  at(slot: number): Request<Client, Holder> {
    return this.rows[slot]!
  }

  /** An open request with a fresh ticket and nothing delivered, or undefined when `limit` are held. The caller fills in the rest. */
  allocate(): Request<Client, Holder> | undefined {
    if (this.size >= this.limit) return undefined
    const request = this.rows[this.take()]!
    this.size++
    request.ticket = request.ticket === 0xffff ? 1 : request.ticket + 1
    request.order = this.count++
    request.phase = Phase.open
    request.attempts = 0
    request.live = 0
    request.accepted = false
    request.nextIndex = 0
    request.failure = Reason.none
    request.message = undefined
    request.cancelled = false
    request.counted = false
    request.weight = 1
    request.firstMs = Number.NaN
    request.cachedTokens = 0
    return request
  }

  /** Gives a slot back. */
  release(slot: number): void {
    const request = this.at(slot)
    assert(request.phase !== Phase.free, "a slot is released once")
    request.phase = Phase.free
    request.dropChain()
    this.size--
    this.rest(slot)
  }

  /** The request with this stream id, or undefined when it is gone. */
  find(stream: number): Request<Client, Holder> | undefined {
    const request = this.rows[stream & 0xffff]
    return request !== undefined && request.ticket === stream >>> 16 && request.phase !== Phase.free
      ? request
      : undefined
  }

  private take(): number {
    if (this.restedCount === 0 && this.restingCount === 0) this.grow(this.capacity * 2)
    if (this.restedCount > 0) return this.rested[--this.restedCount]!
    this.restingCount--
    return this.wake()
  }

  private rest(slot: number): void {
    const { resting } = this
    if (this.restingCount === resting.length) this.rested[this.restedCount++] = this.wake()
    else this.restingCount++
    const end = this.restingAt + this.restingCount - 1
    resting[end < resting.length ? end : end - resting.length] = slot
  }

  /** The slot that has rested for longest; its place is free for another one. */
  private wake(): number {
    const { resting, restingAt } = this
    this.restingAt = restingAt + 1 < resting.length ? restingAt + 1 : 0
    return resting[restingAt]!
  }

  /** Adds free slots. Called when there are none. */
  private grow(size: number): void {
    assert(size <= SLOTS_MAX, "the table grows within its limit")
    this.rested = new Uint16Array(size)
    for (let slot = size - 1; slot >= this.capacity; slot--) this.rested[this.restedCount++] = slot
    for (let slot = this.capacity; slot < size; slot++) this.rows.push(this.make(slot))
  }
}

assert(Number.isInteger(Math.log2(SLOTS_MAX / SLOTS_MIN)), "doubling ends at the limit")
