import { FIRST_CREDIT } from "../protocol/Limits.ts"
import { Reason } from "../domain/Outcome.ts"
import type { EngineFinish } from "../engines/Engine.ts"
import { assert } from "../structures/assert.ts"

/** Tokens of one attempt that are kept while the client does not read. */
export const HELD_TOKENS_MAX = 4096
/** How long tokens are kept for a client that does not read. */
export const HELD_MS_MAX = 30_000
/** CANCELs kept for ASSIGNs that have not come. They overtake what waits in the balancer's outbox, which is given up after 30 s. */
const EARLY_CANCELS_MAX = 1024
const EARLY_CANCEL_MS = 30_000

assert(FIRST_CREDIT <= HELD_TOKENS_MAX, "what may be sent at once may be kept")

/** One attempt on this worker: numbers to echo, and the tokens between engine and socket. */
export interface Attempt {
  readonly stream: number
  readonly attempt: number
  readonly epoch: number
  /** Index of the next token to send. */
  sent: number
  /** Text of the `readyCount` tokens that may be sent: their indexes are `sent` and up, all below `creditUpTo`. */
  ready: string
  readyCount: number
  /** Tokens beyond the credit. */
  held: Array<string>
  /** When a sweep first saw tokens held, -1 while there are none. */
  heldSinceMs: number
  creditUpTo: number
  /** The engine is done; the attempt is when all tokens are sent. */
  finish: EngineFinish | undefined
  ended: boolean
  /** For the shell: stops the engine's work on it, and whether it is listed as having something to write. */
  stopEngine: () => void
  listed: boolean
}

/**
 * Which attempts a worker has, what it may send of them, and what it refuses. Plain rules: the shell owns engine and socket.
 *
 * An attempt ends exactly once: by `end` (DONE or ERROR was sent), by `cancel`, or by `clear` (the link is lost).
 */
export class WorkerState {
  /** No new work is taken. */
  draining = false
  private readonly capacity: number
  private readonly attempts = new Map<number, Attempt>()
  /** By stream and attempt number, oldest first: when the CANCEL came. */
  private readonly earlyCancels = new Map<number, number>()
  private epoch = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  /** Attempts that have not ended. */
  get size(): number {
    return this.attempts.size
  }

  /**
   * Takes an attempt in, or says why not. `cancelled` is not to be answered: its CANCEL came first. `duplicateRequest` means that the
   * balancer gave out a stream id twice.
   */
  assign(stream: number, attempt: number, epoch: number, nowMs: number): Attempt | Reason {
    if (epoch < this.epoch) return Reason.staleEpoch
    this.epoch = epoch
    const cancelledMs = this.earlyCancels.get(keyOf(stream, attempt))
    if (cancelledMs !== undefined) {
      this.earlyCancels.delete(keyOf(stream, attempt))
      if (nowMs - cancelledMs <= EARLY_CANCEL_MS) return Reason.cancelled
    }
    if (this.attempts.has(stream)) return Reason.duplicateRequest
    if (this.draining) return Reason.draining
    if (this.attempts.size >= this.capacity) return Reason.workerRefused
    const taken: Attempt = {
      stream,
      attempt,
      epoch,
      sent: 0,
      ready: "",
      readyCount: 0,
      held: [],
      heldSinceMs: -1,
      creditUpTo: FIRST_CREDIT,
      finish: undefined,
      ended: false,
      stopEngine: nothing,
      listed: false
    }
    this.attempts.set(stream, taken)
    return taken
  }

  /** Ends the attempt and returns it. Where there is none its ASSIGN may still be under way: this is remembered, and undefined returned. */
  cancel(stream: number, attempt: number, nowMs: number): Attempt | undefined {
    const live = this.attempts.get(stream)
    if (live !== undefined && live.attempt === attempt) {
      this.end(live)
      return live
    }
    this.earlyCancels.set(keyOf(stream, attempt), nowMs)
    if (this.earlyCancels.size > EARLY_CANCELS_MAX)
      this.earlyCancels.delete(this.earlyCancels.keys().next().value!)
    return undefined
  }

  /** Raises the credit of an attempt. Returns it when that made tokens ready. */
  credit(stream: number, attempt: number, upTo: number): Attempt | undefined {
    const live = this.attempts.get(stream)
    if (live === undefined || live.attempt !== attempt || upTo <= live.creditUpTo) return undefined
    live.creditUpTo = upTo
    if (live.held.length === 0) return undefined
    const freed = live.held.splice(0, upTo - live.sent - live.readyCount)
    live.ready += freed.join("")
    live.readyCount += freed.length
    if (live.held.length === 0) live.heldSinceMs = -1
    return live
  }

  /** The engine's next token. False when more are held than the client may leave unread. */
  token(attempt: Attempt, text: string): boolean {
    if (attempt.sent + attempt.readyCount < attempt.creditUpTo) {
      attempt.ready += text
      attempt.readyCount++
      return true
    }
    return attempt.held.push(text) <= HELD_TOKENS_MAX
  }

  /** Everything ready was sent. */
  sent(attempt: Attempt): void {
    attempt.sent += attempt.readyCount
    attempt.ready = ""
    attempt.readyCount = 0
  }

  /** The attempts whose client has not read for too long. To be called a few times a second. */
  overdue(nowMs: number): Array<Attempt> {
    const late: Array<Attempt> = []
    for (const attempt of this.attempts.values()) {
      if (attempt.held.length === 0) continue
      if (attempt.heldSinceMs < 0) attempt.heldSinceMs = nowMs
      else if (nowMs - attempt.heldSinceMs > HELD_MS_MAX) late.push(attempt)
    }
    return late
  }

  end(attempt: Attempt): void {
    assert(!attempt.ended, "an attempt ends once")
    attempt.ended = true
    this.attempts.delete(attempt.stream)
  }

  /** The link is lost: ends everything, and returns it. */
  clear(): Array<Attempt> {
    const all = [...this.attempts.values()]
    for (const attempt of all) this.end(attempt)
    this.earlyCancels.clear()
    return all
  }
}

const nothing = (): void => undefined
const keyOf = (stream: number, attempt: number): number => stream * 0x10000 + attempt
