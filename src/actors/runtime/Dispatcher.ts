import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Task, Turn } from "../../protocol/Turn.ts"
import { Mailbox } from "./Mailbox.ts"

/** How long actors may run before the sockets get their turn. */
const SLICE_MS = 5
/** The clock is read once in so many messages (a power of two): reading it costs as much as a small handler. */
const MESSAGES_PER_LOOK = 16

/**
 * Runs the actors of a process: one pump for all of them, at the end of the turn in which they got messages.
 *
 * A cell woken while the pump runs is run by the same pump, so a chain of messages costs no extra turn. After `SLICE_MS` the rest waits
 * for the next turn. `services` is what effects returned by handlers run with (a test clock, a tracer).
 */
export class Dispatcher implements Task {
  private readonly turn: Turn
  private readonly nowMs: () => number
  private readonly services: Context.Context<never>
  /** Each cell is in it at most once, so it is bounded by the number of actors. */
  private readonly ready = new Mailbox<Task>(Infinity)
  private asked = false
  /** The clock as it was last read: at most `MESSAGES_PER_LOOK` messages ago while the pump runs. */
  lookedMs: number
  private untilMs = 0
  private handled = 0
  private over = false

  constructor(turn: Turn, nowMs: () => number, services: Context.Context<never> = Context.empty()) {
    this.turn = turn
    this.nowMs = nowMs
    this.services = services
    this.lookedMs = nowMs()
  }

  /** Has `cell` run soon. The cell sees to it that it asks once. */
  schedule(cell: Task): void {
    this.ready.offer(cell)
    if (this.asked) return
    this.asked = true
    this.turn.soon(this)
  }

  /** Called by a cell after each message. True: the slice is used up, hand back control. */
  spent(): boolean {
    if (++this.handled % MESSAGES_PER_LOOK === 0) {
      this.lookedMs = this.nowMs()
      this.over = this.lookedMs >= this.untilMs
    }
    return this.over
  }

  /** Starts an effect. It runs at once, up to its first wait. */
  fork(effect: Effect.Effect<void, unknown>): Fiber.Fiber<void, unknown> {
    return Effect.runForkWith(this.services)(effect)
  }

  run(): void {
    this.over = false
    this.lookedMs = this.nowMs()
    this.untilMs = this.lookedMs + SLICE_MS
    try {
      while (this.ready.size > 0 && !this.over) this.ready.take().run()
    } finally {
      this.asked = this.ready.size > 0
      if (this.asked) this.turn.soon(this)
    }
  }
}
