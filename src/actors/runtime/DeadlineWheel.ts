import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Cancel } from "../../protocol/Timers.ts"
import { Chain } from "./Chain.ts"
import { monotonicMs } from "./monotonicMs.ts"

/** Resolution of a deadline. */
const TICK_MS = 10
/** One round of the wheel is about 10 s; a deadline further away stays in its slot for several rounds. */
const SLOTS = 1024

interface Deadline {
  readonly tick: number
  readonly expire: () => void
}

/**
 * Deadlines for many waiters: one sleeping fiber for all of them, on Effect's clock, asleep until the next slot that holds something.
 *
 * A deadline never comes early, and at most `TICK_MS` late as far as the event loop lets it. `add` and its cancel cost O(1).
 * When the scope it was made in closes, what is still waiting never expires.
 * Source: Varghese & Lauck, "Hashed and hierarchical timing wheels" (1987), scheme 6.
 */
export class DeadlineWheel {
  static readonly make: Effect.Effect<DeadlineWheel, never, Scope.Scope> = Effect.acquireRelease(
    Effect.contextWith((services) =>
      Effect.clockWith((clock) => Effect.sync(() => new DeadlineWheel(clock, Effect.runForkWith(services))))
    ),
    (wheel) => Effect.sync(() => wheel.sleeper?.interruptUnsafe())
  )

  private readonly clock: Clock.Clock
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly slots: ReadonlyArray<Chain<Deadline>> = Array.from({ length: SLOTS }, () => new Chain())
  /** What expires in this very moment: whoever expires may cancel others, or add some. */
  private readonly due = new Chain<Deadline>()
  /** Deadlines that are neither cancelled nor expired. */
  private size = 0
  /** The last tick whose slot was emptied. */
  private done = 0
  private sleeper: Fiber.Fiber<void> | undefined
  private wakeTick = Infinity

  private constructor(clock: Clock.Clock, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.clock = clock
    this.fork = fork
  }

  /** Calls `expire` after `delayMs`, unless cancelled before. `expire` must not throw. */
  add(delayMs: number, expire: () => void): Cancel {
    const nowMs = monotonicMs(this.clock)
    const tick = Math.max(this.done + 1, Math.ceil((nowMs + delayMs) / TICK_MS))
    const entry = this.slots[tick % SLOTS]!.add({ tick, expire })
    this.size++
    if (tick < this.wakeTick) this.sleepUntil(tick, nowMs)
    return () => {
      if (entry.chain?.remove(entry) === true) this.size--
    }
  }

  private sleepUntil(tick: number, nowMs: number): void {
    this.sleeper?.interruptUnsafe()
    this.wakeTick = tick
    this.sleeper = this.fork(
      Effect.delay(
        Effect.sync(() => this.turn()),
        Math.max(1, tick * TICK_MS - nowMs)
      )
    )
  }

  private turn(): void {
    this.sleeper = undefined
    this.wakeTick = Infinity
    const nowMs = monotonicMs(this.clock)
    const first = this.done + 1
    this.done = Math.floor(nowMs / TICK_MS)
    const slotCount = Math.min(this.done - first + 1, SLOTS)
    for (let index = 0; index < slotCount; index++) this.collect(this.slots[(first + index) % SLOTS]!)
    for (let deadline = this.due.shift(); deadline !== undefined; deadline = this.due.shift()) {
      this.size--
      deadline.expire()
    }
    if (this.size > 0) this.sleepUntil(this.nextTick(), nowMs)
  }

  private collect(slot: Chain<Deadline>): void {
    for (let entry = slot.first; entry !== undefined;) {
      const { next } = entry
      if (entry.value.tick <= this.done) {
        slot.remove(entry)
        this.due.append(entry)
      }
      entry = next
    }
  }

  /** The next tick whose slot holds something, be it for a later round. */
  private nextTick(): number {
    let tick = this.done + 1
    while (this.slots[tick % SLOTS]!.first === undefined) tick++
    return tick
  }
}
