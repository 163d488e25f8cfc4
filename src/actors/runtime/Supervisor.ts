import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { assert } from "../../structures/assert.ts"
import { RestartWindow } from "../../structures/RestartWindow.ts"
import { Child } from "./Child.ts"
import { assertValid, type ChildSpec, isRestarted } from "./ChildSpec.ts"
import { monotonicMs } from "./monotonicMs.ts"
import type { Process } from "./Process.ts"
import { processOfFiber } from "./processOfFiber.ts"

/** Who is restarted when one child crashed: that child, all of them, or that child and those started after it. */
export type Strategy = "oneForOne" | "oneForAll" | "restForOne"

export interface SupervisorOptions<R = never> {
  readonly id: string
  readonly strategy: Strategy
  /** Started in this order, stopped in the reverse one. */
  readonly children: ReadonlyArray<ChildSpec<R>>
  /** Those that are to be stopped are so all at once: none needs another. False unless told. */
  readonly stopsTogether?: boolean
  /** At most `intensity` restarts within any `periodMs`; one more and the supervisor gives up. 5 in 30 s unless told. */
  readonly intensity?: number
  readonly periodMs?: number
  /** Hears of everything that happens to the children. Must not throw. */
  readonly onEvent?: (event: SupervisionEvent) => void
}

const INTENSITY = 5
const PERIOD_MS = 30_000

/** "Ended" is by itself, "Stopped" is by the supervisor, "Abandoned" is a child that did not go when stopped and killed. */
export interface SupervisionEvent {
  readonly _tag: "Started" | "Restarted" | "StartFailed" | "Ended" | "Stopped" | "Abandoned" | "Escalated"
  readonly supervisor: string
  readonly child: string
  readonly exit?: Exit.Exit<unknown, unknown>
}

/** The supervisor gave up: a child could not be started with it, or crashed too often. All its children are stopped. */
export class Escalated extends Schema.TaggedError<Escalated>()("Escalated", {
  supervisor: Schema.String,
  child: Schema.String,
  cause: Schema.Defect()
}) {}

/** There is a child of this name, running or waiting for its restart. */
export class DuplicateChild extends Schema.TaggedError<DuplicateChild>()("DuplicateChild", {
  child: Schema.String
}) {}

/** The child did not start; whatever it had acquired is released. */
export class StartFailed extends Schema.TaggedError<StartFailed>()("StartFailed", {
  child: Schema.String,
  cause: Schema.Defect()
}) {}

/** The supervisor has ended, or ended before it got to this. */
export class SupervisorStopped extends Schema.TaggedError<SupervisorStopped>()("SupervisorStopped", {
  supervisor: Schema.String
}) {}

export interface Supervisor<R = never> {
  /** Interrupting it stops the children in order; its Down comes after theirs. */
  readonly process: Process
  /** In start order; `process` is absent while a child waits for its restart. */
  readonly children: () => ReadonlyArray<{ readonly id: string; readonly process: Process | undefined }>
  /** Starts one more child, the last in order. One that fails to start is not kept. */
  readonly startChild: (
    spec: ChildSpec<R>
  ) => Effect.Effect<Process, DuplicateChild | StartFailed | SupervisorStopped>
  /** Stops a child and forgets it. False when there is none of this name. */
  readonly stopChild: (id: string) => Effect.Effect<boolean, SupervisorStopped>
  /**
   * Stops a child and starts it again, it alone, which does not count as a restart; one that waits for its restart gets it at once.
   * False when there is none of this name. A start that fails is a crash.
   */
  readonly restartChild: (id: string) => Effect.Effect<boolean, SupervisorStopped>
  /** Waits for the supervisor to give up. */
  readonly join: Effect.Effect<never, Escalated>
}

/**
 * Starts a supervisor and, in order, its children. Succeeds when all of them have started; if one does not, those before it are stopped
 * and it fails. Closing the scope stops the children in reverse order, each within its own deadline.
 *
 * Semantics are OTP's; `docs/runtime-semantics.md` has them on one page.
 */
export const supervise = Effect.fnUntraced(function* <R = never>(
  options: SupervisorOptions<R>
): Effect.fn.Return<Supervisor<R>, Escalated, R | Scope.Scope> {
  // Unbounded, but it holds at most a Down or a restart for each child, and one call for each fiber that waits for its answer.
  const inbox = yield* Queue.unbounded<Command<R>>()
  const loop = new Loop(options, inbox, yield* Effect.context<R>(), yield* Clock.Clock)
  const started = yield* Deferred.make<void>()
  const fiber = yield* Effect.acquireRelease(
    Effect.forkDetach(loop.run(started), { startImmediately: true }),
    Fiber.interrupt
  )
  const stopped = Effect.andThen(
    Fiber.await(fiber),
    Effect.fail(new SupervisorStopped({ supervisor: options.id }))
  )
  const call = <A, E>(
    body: Effect.Effect<Exit.Exit<A, E>, Escalated>
  ): Effect.Effect<A, E | SupervisorStopped> =>
    Effect.suspend(() => {
      const reply = Deferred.makeUnsafe<A, E>()
      Queue.offerUnsafe(inbox, {
        _tag: "Call",
        run: Effect.flatMap(body, (answer) => Deferred.done(reply, answer))
      })
      return Effect.raceFirst(Deferred.await(reply), stopped)
    })
  yield* Effect.raceFirst(Deferred.await(started), Fiber.join(fiber))
  return {
    process: processOfFiber(options.id, fiber),
    children: () => loop.children.map(({ process, spec }) => ({ id: spec.id, process })),
    startChild: (spec) =>
      Effect.suspend(() => {
        // Here, where it is a defect of who asks: in the loop it would be one of the supervisor.
        assertValid(spec)
        return call(loop.startChild(spec))
      }),
    stopChild: (id) => call(loop.stopChild(id)),
    restartChild: (id) => call(loop.restartChild(id)),
    join: Fiber.join(fiber)
  }
})

/** A supervisor as the child of another: when it gives up, that is a crash its parent sees. May take its time to end, unless told. */
export const asChild = <R = never>(
  options: SupervisorOptions<R>,
  spec: Omit<ChildSpec<R>, "id" | "start"> = {}
): ChildSpec<R> => ({
  shutdown: "infinity",
  ...spec,
  id: options.id,
  start: Effect.map(supervise(options), (supervisor) => supervisor.process)
})

type Command<R> =
  | {
      readonly _tag: "Ended"
      readonly child: Child<R>
      readonly generation: number
      readonly exit: Exit.Exit<unknown, unknown>
    }
  | { readonly _tag: "Restart"; readonly child: Child<R>; readonly generation: number }
  | { readonly _tag: "Call"; readonly run: Effect.Effect<unknown, Escalated> }

/** The one fiber of a supervisor. Between two commands it can be interrupted, in the middle of one only while a child starts. */
class Loop<R> {
  /** In start order. */
  readonly children: Array<Child<R>> = []
  private readonly options: SupervisorOptions<R>
  private readonly inbox: Queue.Queue<Command<R>>
  private readonly services: Context.Context<R>
  private readonly clock: Clock.Clock
  private readonly periodMs: number
  private readonly window: RestartWindow

  constructor(
    options: SupervisorOptions<R>,
    inbox: Queue.Queue<Command<R>>,
    services: Context.Context<R>,
    clock: Clock.Clock
  ) {
    this.options = options
    this.inbox = inbox
    this.services = services
    this.clock = clock
    this.periodMs = options.periodMs ?? PERIOD_MS
    this.window = new RestartWindow(options.intensity ?? INTENSITY, this.periodMs)
    for (const spec of options.children) assertValid(spec)
    assert(
      new Set(options.children.map(({ id }) => id)).size === options.children.length,
      "siblings differ in name"
    )
  }

  run(started: Deferred.Deferred<void>): Effect.Effect<never, Escalated> {
    return Effect.gen({ self: this }, function* () {
      for (const spec of this.options.children) {
        const child = new Child(spec)
        this.children.push(child)
        const exit = yield* this.start(child, "Started")
        if (Exit.isFailure(exit)) return yield* this.giveUp(child, exit)
      }
      yield* Deferred.succeed(started, undefined)
      while (true) yield* this.handle(yield* Effect.interruptible(Queue.take(this.inbox)))
    }).pipe(
      Effect.onExit(() => this.stopAll([...this.children])),
      Effect.uninterruptible
    )
  }

  startChild(spec: ChildSpec<R>): Effect.Effect<Exit.Exit<Process, DuplicateChild | StartFailed>> {
    return Effect.gen({ self: this }, function* () {
      if (this.find(spec.id) !== undefined) return Exit.fail(new DuplicateChild({ child: spec.id }))
      const child = new Child(spec)
      this.children.push(child)
      const exit = yield* this.start(child, "Started")
      if (Exit.isSuccess(exit)) return Exit.succeed(exit.value)
      this.remove(child)
      return Exit.fail(new StartFailed({ child: spec.id, cause: Cause.squash(exit.cause) }))
    })
  }

  stopChild(id: string): Effect.Effect<Exit.Exit<boolean>> {
    return Effect.gen({ self: this }, function* () {
      const child = this.find(id)
      if (child === undefined) return Exit.succeed(false)
      const heir = child.leads
        ? this.group(child).find((other) => other !== child && other.process === undefined)
        : undefined
      yield* this.stop(child)
      this.remove(child)
      if (heir !== undefined) yield* this.planRestart(heir, 0)
      return Exit.succeed(true)
    })
  }

  restartChild(id: string): Effect.Effect<Exit.Exit<boolean>, Escalated> {
    return Effect.gen({ self: this }, function* () {
      const child = this.find(id)
      if (child === undefined) return Exit.succeed(false)
      if (child.process === undefined) {
        yield* this.restart(
          this.children.find((other) => other.leads && this.group(other).includes(child)) ?? child
        )
      } else {
        yield* this.stop(child)
        yield* this.restartOne(child)
      }
      return Exit.succeed(true)
    })
  }

  private handle(command: Command<R>): Effect.Effect<unknown, Escalated> {
    if (command._tag === "Call") return command.run
    const { child, generation } = command
    if (generation !== child.generation) return Effect.void
    return command._tag === "Ended" ? this.ended(child, command.exit) : this.restart(child)
  }

  private ended(child: Child<R>, exit: Exit.Exit<unknown, unknown>) {
    return Effect.gen({ self: this }, function* () {
      this.say("Ended", child, exit)
      if (!(yield* child.release(exit))) this.say("Abandoned", child)
      yield* this.settle(child, exit)
    })
  }

  /** What is to become of a child that ended by itself, or that could not be started again. */
  private settle(child: Child<R>, exit: Exit.Exit<unknown, unknown>): Effect.Effect<unknown, Escalated> {
    if (isRestarted(child.spec, exit)) return this.recover(child, exit)
    this.remove(child)
    return Effect.void
  }

  /** Stops those who go down with a crashed child and plans their restart. Control returns to the loop before that is tried. */
  private recover(child: Child<R>, exit: Exit.Exit<unknown, unknown>) {
    return Effect.gen({ self: this }, function* () {
      const nowMs = monotonicMs(this.clock)
      if (!this.window.allow(nowMs)) return yield* this.giveUp(child, exit)
      const delayMs = yield* child.delay(exit, nowMs, this.periodMs)
      if (Option.isNone(delayMs)) return yield* this.giveUp(child, exit)
      const group = this.group(child)
      yield* this.stopAll(group)
      for (const other of group) if (other.spec.restart === "temporary") this.remove(other)
      yield* this.planRestart(child, delayMs.value)
    })
  }

  /** The child at the head of a group is to be started, and with it all of the group that are not running. */
  private planRestart(child: Child<R>, delayMs: number) {
    child.leads = true
    const plan = Queue.offer(this.inbox, { _tag: "Restart", child, generation: child.generation })
    return delayMs === 0 ? plan : Effect.forkChild(Effect.delay(plan, delayMs))
  }

  private restart(leader: Child<R>) {
    return Effect.gen({ self: this }, function* () {
      for (const child of this.group(leader)) {
        if (child.process === undefined && !(yield* this.restartOne(child))) return
      }
    })
  }

  /** False when it did not start and will be tried again, which is taken care of: that counts as a crash. */
  private restartOne(child: Child<R>) {
    return Effect.gen({ self: this }, function* () {
      const exit = yield* this.start(child, "Restarted")
      if (Exit.isSuccess(exit)) return true
      yield* this.settle(child, exit)
      return !isRestarted(child.spec, exit)
    })
  }

  private start(child: Child<R>, done: "Started" | "Restarted") {
    const onEnd = (generation: number, exit: Exit.Exit<unknown, unknown>) => {
      Queue.offerUnsafe(this.inbox, { _tag: "Ended", child, generation, exit })
    }
    return Effect.tap(child.start(this.services, monotonicMs(this.clock), onEnd), (exit) =>
      Effect.sync(() => (Exit.isSuccess(exit) ? this.say(done, child) : this.say("StartFailed", child, exit)))
    )
  }

  private stop(child: Child<R>) {
    const running = child.process !== undefined
    return Effect.map(child.stop(), (gone) => {
      if (running) this.say(gone ? "Stopped" : "Abandoned", child)
    })
  }

  /** In reverse start order, one after the other unless told. */
  private stopAll(children: ReadonlyArray<Child<R>>) {
    const concurrency = this.options.stopsTogether === true ? "unbounded" : 1
    return Effect.forEach(children.toReversed(), (child) => this.stop(child), { discard: true, concurrency })
  }

  private giveUp(child: Child<R>, exit: Exit.Exit<unknown, unknown>): Effect.Effect<never, Escalated> {
    this.say("Escalated", child, exit)
    const cause = Exit.isFailure(exit) ? Cause.squash(exit.cause) : new Error("it ended normally too often")
    return Effect.fail(new Escalated({ supervisor: this.options.id, child: child.spec.id, cause }))
  }

  /** Those who are stopped and started together with a child that crashed, itself included. */
  private group(child: Child<R>): ReadonlyArray<Child<R>> {
    const { strategy } = this.options
    if (strategy === "oneForOne") return [child]
    return strategy === "oneForAll" ? [...this.children] : this.children.slice(this.children.indexOf(child))
  }

  private find(id: string): Child<R> | undefined {
    return this.children.find((child) => child.spec.id === id)
  }

  private remove(child: Child<R>): void {
    this.children.splice(this.children.indexOf(child), 1)
  }

  private say(_tag: SupervisionEvent["_tag"], child: Child<R>, exit?: Exit.Exit<unknown, unknown>): void {
    const event = { _tag, supervisor: this.options.id, child: child.spec.id }
    this.options.onEvent?.(exit === undefined ? event : { ...event, exit })
  }
}
