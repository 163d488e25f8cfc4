import { isRetryable, Reason, reasonName } from "../domain/Outcome.ts"
import type { Ending } from "./Ending.ts"
import type { RequestFacts } from "./GenerateRequest.ts"
import { TokenSequence } from "./TokenSequence.ts"

/** Who is told what becomes of a request. `ended` is called exactly once, last, and never before the call that made the request returns. */
export interface RequestListener {
  /** The balancer took the request in. Called at most once. */
  readonly admitted?: (() => void) | undefined
  /** `count` more tokens, the first with this index. `text` is empty when `text` below is false. */
  readonly token?: ((index: number, count: number, text: string) => void) | undefined
  readonly ended: (ending: Ending) => void
  /** Whether the tokens' text is wanted: decoding it is most of the cost of a token. */
  readonly text?: boolean | undefined
}

/**
 * One request on its way: waiting for a connection, sent, or ended.
 *
 * An ended one stays known to its link as long as the balancer may still send frames about it.
 */
export class OpenRequest {
  readonly idHigh: number
  readonly idLow: number
  readonly facts: RequestFacts
  readonly startedMs: number
  /** Infinity when the balancer alone decides. */
  readonly deadlineMs: number
  readonly tokens = new TokenSequence()
  /** Number on its connection; 0 while it is not sent. */
  stream = 0
  /** Connections lost since it was first sent. */
  losses = 0
  /** Rejections so far. */
  rejections = 0
  admitted = false
  ended = false
  /** When it may be sent (again). */
  dueMs = 0
  /** When the caller gave up; Infinity while it has not. */
  cancelledMs = Infinity
  /** Whether reading is reported by the listener's owner, by `Control.read`; otherwise a token counts as read when it is handed over. */
  readonly paced: boolean
  private firstTokenMs = -1
  private delivered = 0
  private readonly listener: RequestListener
  private readonly release: () => void

  constructor(options: {
    readonly idHigh: number
    readonly idLow: number
    readonly facts: RequestFacts
    readonly listener: RequestListener
    readonly paced: boolean
    readonly nowMs: number
    /** Runs when the request ends, before the listener hears of it. */
    readonly release: () => void
  }) {
    this.idHigh = options.idHigh
    this.idLow = options.idLow
    this.facts = options.facts
    this.listener = options.listener
    this.paced = options.paced
    this.startedMs = options.nowMs
    this.deadlineMs = options.nowMs + (options.facts.timeoutMs ?? Infinity)
    this.release = options.release
  }

  get wantsText(): boolean {
    return this.listener.text === true && this.cancelledMs === Infinity
  }

  admit(): void {
    if (this.admitted || this.ended) return
    this.admitted = true
    try {
      this.listener.admitted?.()
    } catch (error) {
      throwLater(error)
    }
  }

  /** Hands over tokens that were checked. After a cancel nobody wants them. */
  deliver(index: number, count: number, text: string, nowMs: number): void {
    if (this.firstTokenMs < 0) this.firstTokenMs = nowMs
    // The first token may come in place of ACCEPTED.
    this.admit()
    // Who heard of that may have closed the client.
    if (this.ended || this.cancelledMs !== Infinity) return
    this.delivered += count
    try {
      this.listener.token?.(index, count, text)
    } catch (error) {
      throwLater(error)
    }
  }

  /** Ends with what the client itself found out, or with what an ERROR says. */
  fail(
    reason: Reason,
    message: string,
    nowMs: number,
    attempts = this.tokens.attempt,
    retryAfterMs = 0
  ): void {
    const outcome =
      reason === Reason.cancelled ? "cancelled" : reason === Reason.expired ? "expired" : "error"
    this.end({
      outcome,
      reason: reasonName(reason),
      delivered: this.delivered,
      retryAfterMs,
      retryable: isRetryable(reason),
      message,
      attempts,
      ttftMs: this.ttftMs,
      e2eMs: nowMs - this.startedMs
    })
  }

  reject(reason: number, retryAfterMs: number, message: string, nowMs: number): void {
    this.end({
      outcome: "rejected",
      reason: reasonName(reason),
      retryAfterMs,
      retryable: isRetryable(reason),
      message,
      e2eMs: nowMs - this.startedMs
    })
  }

  end(ending: Ending): void {
    if (this.ended) return
    this.ended = true
    this.release()
    try {
      this.listener.ended(ending)
    } catch (error) {
      throwLater(error)
    }
  }

  get ttftMs(): number | undefined {
    return this.firstTokenMs < 0 ? undefined : this.firstTokenMs - this.startedMs
  }
}

/** A listener's mistake is its own: it surfaces as an uncaught error and harms no other request of the connection. */
const throwLater = (error: unknown): void =>
  queueMicrotask(() => {
    throw error
  })
