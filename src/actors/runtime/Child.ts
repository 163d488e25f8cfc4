import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { type ChildSpec, shutdownMs } from "./ChildSpec.ts"
import { kill, type Process } from "./Process.ts"

/** How long a killed child may take to be down before it is abandoned. */
const KILL_MS = 1_000

/** Hears of the end of the incarnation that had this generation. */
type OnEnd = (generation: number, exit: Exit.Exit<unknown, unknown>) => void

/**
 * One child of a supervisor through all its incarnations. Its effects are run by the supervisor's loop, one at a time; only a start
 * can be interrupted.
 */
export class Child<R> {
  readonly spec: ChildSpec<R>
  /** Grows with each start and stop: a Down or a timer that carries an older number is stale. */
  generation = 0
  process: Process | undefined
  /** It is because of this child that it, and perhaps its siblings, wait for a restart. */
  leads = false
  private scope: Scope.Closeable | undefined
  private nextDelay: Effect.Success<ReturnType<typeof delays>> | undefined
  private startedMs = Infinity

  constructor(spec: ChildSpec<R>) {
    this.spec = spec
  }

  /** Starts it. On failure everything it had acquired is released. */
  start(services: Context.Context<R>, nowMs: number, onEnd: OnEnd) {
    return Effect.gen({ self: this }, function* () {
      const generation = ++this.generation
      this.leads = false
      this.scope = Scope.makeUnsafe()
      const start = Effect.provideContext(this.spec.start, Context.add(services, Scope.Scope, this.scope))
      const exit = yield* Effect.exit(Effect.interruptible(start))
      if (Exit.isFailure(exit)) {
        yield* this.release(exit)
        // If it was the supervisor itself that was interrupted, that comes first.
        yield* Effect.interruptible(Effect.void)
        return exit
      }
      this.process = exit.value
      this.startedMs = nowMs
      exit.value.watch((down) => onEnd(generation, down.exit))
      return exit
    })
  }

  /** Ends it: interrupt, wait, kill, wait. False when it did not go even then. */
  stop() {
    return Effect.gen({ self: this }, function* () {
      const { process, scope, spec } = this
      this.forget()
      if (process === undefined || scope === undefined) return true
      const gone = yield* detached(Effect.flatMap(exitOf(process), (exit) => Scope.close(scope, exit)))
      if (spec.shutdown !== "kill") {
        process.interrupt()
        if (yield* endsWithin(gone, shutdownMs(spec))) return true
      }
      kill(process)
      return yield* endsWithin(gone, KILL_MS)
    })
  }

  /** Closes the scope of a child that is down. False when that took longer than its shutdown, or its kill, may. */
  release(exit: Exit.Exit<unknown, unknown>) {
    return Effect.gen({ self: this }, function* () {
      const { scope, spec } = this
      this.forget()
      if (scope === undefined) return true
      return yield* endsWithin(yield* detached(Scope.close(scope, exit)), shutdownMs(spec) || KILL_MS)
    })
  }

  /** Milliseconds to wait before the next restart, or none when its schedule is done. `steadyMs` of life make the schedule begin anew. */
  delay(exit: Exit.Exit<unknown, unknown>, nowMs: number, steadyMs: number) {
    return Effect.gen({ self: this }, function* () {
      const { backoff } = this.spec
      if (backoff === undefined) return Option.some(0)
      if (nowMs - this.startedMs > steadyMs) this.nextDelay = undefined
      this.startedMs = Infinity
      this.nextDelay ??= yield* delays(backoff)
      return yield* this.nextDelay(nowMs, exit)
    })
  }

  private forget(): void {
    this.generation++
    this.leads = false
    this.process = undefined
    this.scope = undefined
  }
}

const delays = (backoff: Schedule.Schedule<unknown, Exit.Exit<unknown, unknown>>) =>
  Effect.map(
    Schedule.toStep(backoff),
    (step) => (nowMs: number, exit: Exit.Exit<unknown, unknown>) =>
      step(nowMs, exit).pipe(
        Effect.map(([, delay]) => Option.some(Duration.toMillis(delay))),
        Pull.catchDone(() => Effect.succeed(Option.none<number>()))
      )
  )

const exitOf = (process: Process) =>
  Effect.callback<Exit.Exit<unknown, unknown>>((resume) => {
    process.watch((down) => resume(Effect.succeed(down.exit)))
  })

/** Work that goes on even if nobody waits for it any longer. */
const detached = (effect: Effect.Effect<void>) => Effect.forkDetach(effect, { startImmediately: true })

const endsWithin = (fiber: Fiber.Fiber<void>, limitMs: number) =>
  Effect.map(Effect.timeoutOption(Fiber.await(fiber), limitMs), Option.isSome)
