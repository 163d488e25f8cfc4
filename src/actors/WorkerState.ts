import { FIRST_CREDIT, FIRST_CREDIT_BYTES, mayFollow } from "../protocol/Limits.ts"
import { Reason } from "../domain/Outcome.ts"
import { type EngineFinish, KV_KEPT_MS } from "../engines/Engine.ts"
import { assert } from "../structures/assert.ts"

/** Tokens of one attempt that are kept while the client does not read. */
export const HELD_TOKENS_MAX = 4096
/** How long tokens are kept for a client that does not read. */
export const HELD_MS_MAX = 30_000
/** CANCELs kept for ASSIGNs that have not come. They overtake what waits in the balancer's outbox, 4 MiB of it for at most 30 s. */
const EARLY_CANCELS_MAX = 65_536
const EARLY_CANCEL_MS = 30_000

/** Bytes of a TOKEN frame beside its text, at most. */
export const TOKEN_FRAME_BYTES = 38
/** UTF-8 bytes a UTF-16 unit takes at most. */
const UNIT_BYTES_MAX = 3

assert(FIRST_CREDIT <= HELD_TOKENS_MAX, "what may be sent at once may be kept")

/** One attempt on this worker: numbers to echo, and the tokens between engine and socket. */
export interface Attempt {
  readonly stream: number
  readonly attempt: number
  readonly epoch: number
  /** Index of the next token to send. */
  sent: number
  /** Bytes of the TOKEN frames sent. */
  sentBytes: number
  /** Text of the `readyCount` tokens that may be sent in one frame: their indexes are `sent` and up, all below `creditUpTo`. */
  ready: string
  readyCount: number
  /** Bytes of that frame, or more. */
  readyBytes: number
  /** Tokens beyond the credit. */
  held: Array<string>
  /** When a sweep first saw tokens held of which none has left since, -1 while there are none. */
  heldSinceMs: number
  creditUpTo: number
  creditUpToBytes: number
  /** The engine is done; the attempt is when all tokens are sent. */
  finish: EngineFinish | undefined
  /** Its prompt was all there was to do, and the KV cache is kept since then, in the engine's time; -1 before. */
  keptSinceMs: number
  ended: boolean
  /** For the shell: stops the engine's work on it, and whether it is listed as having something to write. */
  stopEngine: () => void
  listed: boolean
}

/**
 * Which attempts a worker has, what it may send of them, and what it refuses. Plain rules: the shell owns engine and socket.
 *
 * An attempt ends exactly once: by `end` (DONE or ERROR was sent, or its KV cache was kept long enough), by `cancel`, or by `clear` (the
 * link is lost).
 */
export class WorkerState {
  /** No new work is taken. */
  draining = false
  private readonly capacity: number
  private readonly attempts = new Map<number, Attempt>()
  /** By stream and attempt number, oldest first: when the CANCEL came. */
  private readonly earlyCancels = new Map<number, number>()
  /** The latest on this connection. */
  private epoch = 0
  /** Attempts of which only the KV cache is kept. */
  private kept = 0

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
    const isFull = this.attempts.size - this.kept >= this.capacity || this.kept >= this.capacity
    if (isFull) return Reason.workerRefused
    const taken: Attempt = {
      stream,
      attempt,
      epoch,
      sent: 0,
      sentBytes: 0,
      ready: "",
      readyCount: 0,
      readyBytes: TOKEN_FRAME_BYTES,
      held: [],
      heldSinceMs: -1,
      creditUpTo: FIRST_CREDIT,
      creditUpToBytes: FIRST_CREDIT_BYTES,
      finish: undefined,
      keptSinceMs: -1,
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

  /** Raises the credit of an attempt, in tokens and in bytes. Returns it when that made tokens ready. */
  credit(stream: number, attempt: number, upTo: number, upToBytes: number): Attempt | undefined {
    const live = this.attempts.get(stream)
    if (live === undefined || live.attempt !== attempt) return undefined
    live.creditUpTo = Math.max(live.creditUpTo, upTo)
    live.creditUpToBytes = Math.max(live.creditUpToBytes, upToBytes)
    return release(live) ? live : undefined
  }

  /** The engine's next token. False when more are held than the client may leave unread. */
  token(attempt: Attempt, text: string): boolean {
    return (attempt.held.length === 0 && joins(attempt, text)) || attempt.held.push(text) <= HELD_TOKENS_MAX
  }

  /** Everything ready was sent, in a frame of so many bytes. Held tokens may be ready then. */
  sent(attempt: Attempt, frameBytes: number): void {
    attempt.sent += attempt.readyCount
    attempt.sentBytes += frameBytes
    attempt.ready = ""
    attempt.readyCount = 0
    attempt.readyBytes = TOKEN_FRAME_BYTES
    release(attempt)
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

  /** The prompt was read, and that was said: from now on the attempt takes nobody's place. `nowMs` is the engine's time. */
  keep(attempt: Attempt, nowMs: number): void {
    attempt.keptSinceMs = nowMs
    this.kept++
  }

  /** The attempts whose KV cache nobody has asked for in time, which is the engine's. To be called a few times a second. */
  forgotten(nowMs: number): Array<Attempt> {
    return [...this.attempts.values()].filter(
      ({ keptSinceMs }) => keptSinceMs >= 0 && nowMs - keptSinceMs > KV_KEPT_MS
    )
  }

  end(attempt: Attempt): void {
    assert(!attempt.ended, "an attempt ends once")
    if (attempt.keptSinceMs >= 0) this.kept--
    attempt.ended = true
    this.attempts.delete(attempt.stream)
  }

  /** The link is lost: ends everything, and returns it. */
  clear(): Array<Attempt> {
    const all = [...this.attempts.values()]
    for (const attempt of all) this.end(attempt)
    this.earlyCancels.clear()
    // Epochs go by the wall clock of the balancer's machine, which may have been set back when it starts again.
    this.epoch = 0
    return all
  }
}

/** Makes ready what is held, as far as the credit goes. Says whether that was anything. */
const release = (attempt: Attempt): boolean => {
  const { held } = attempt
  let count = 0
  while (count < held.length && joins(attempt, held[count]!)) count++
  if (count === 0) return false
  held.splice(0, count)
  attempt.heldSinceMs = -1
  return true
}

/** Makes one more token ready, if the credit allows. */
const joins = (attempt: Attempt, text: string): boolean => {
  if (attempt.sent + attempt.readyCount >= attempt.creditUpTo || !fits(attempt, text)) return false
  attempt.ready += text
  attempt.readyCount++
  return true
}

/** Whether the frame with one more token would stay within the credit. Bytes are counted exactly only where it is close. */
const fits = (attempt: Attempt, text: string): boolean => {
  const { sentBytes, creditUpToBytes, ready, readyCount } = attempt
  attempt.readyBytes += UNIT_BYTES_MAX * text.length
  if (sentBytes + attempt.readyBytes <= creditUpToBytes) return true
  const readyBytes = TOKEN_FRAME_BYTES + Buffer.byteLength(ready)
  const frameBytes = readyBytes + Buffer.byteLength(text)
  const isWithin =
    readyCount === 0
      ? mayFollow(sentBytes, frameBytes, creditUpToBytes)
      : sentBytes + frameBytes <= creditUpToBytes
  attempt.readyBytes = isWithin ? frameBytes : readyBytes
  return isWithin
}

const nothing = (): void => undefined
const keyOf = (stream: number, attempt: number): number => stream * 0x10000 + attempt
