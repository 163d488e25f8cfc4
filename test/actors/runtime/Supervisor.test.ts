import { describe, expect } from "bun:test"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type { ChildSpec, Restart } from "../../../src/actors/runtime/ChildSpec.ts"
import { Watchers } from "../../../src/actors/runtime/Process.ts"
import { processOfFiber } from "../../../src/actors/runtime/processOfFiber.ts"
import {
  asChild,
  DuplicateChild,
  type Escalated,
  type Strategy,
  StartFailed,
  supervise,
  type SupervisorOptions,
  SupervisorStopped
} from "../../../src/actors/runtime/Supervisor.ts"
import { spawn } from "../../../src/actors/runtime/Cell.ts"
import { manualTurn } from "./manualTurn.ts"
import { type End, ends, nameOf, Stage } from "./stage.ts"
import { it } from "../../support/effectTest.ts"
import { settle } from "./virtualTime.ts"

/** A supervisor whose scope the test closes, and what it said. */
const setUp = (children: ReadonlyArray<ChildSpec>, options: Partial<SupervisorOptions> = {}) =>
  Effect.gen(function* () {
    const events: Array<string> = []
    const scope = yield* Scope.make()
    const supervisor = yield* Scope.provide(
      supervise({
        id: "s",
        strategy: "oneForOne",
        children,
        onEvent: (event) => events.push(nameOf(event)),
        ...options
      }),
      scope
    )
    return {
      supervisor,
      events: () => events.splice(0),
      close: Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true }),
      ids: () => supervisor.children().map(({ id, process }) => (process === undefined ? `(${id})` : id))
    }
  })

const escalation = (fiber: Fiber.Fiber<unknown, Escalated>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), ({ child, supervisor }) => `${supervisor}: ${child}`)

describe("start", () => {
  it("starts the children in order and stops them in reverse, each released before the next is stopped", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close, events, ids } = yield* setUp(["a", "b", "c"].map((id) => stage.child(id)))
      expect(stage.take()).toBe("+a +b +c")
      expect(ids()).toEqual(["a", "b", "c"])
      yield* Fiber.join(yield* close)
      expect(stage.take()).toBe("-c ~c -b ~b -a ~a")
      expect(events()).toEqual(["Started a", "Started b", "Started c", "Stopped c", "Stopped b", "Stopped a"])
    }))

  it("does not start a child before the one before it is ready", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const ready = yield* Deferred.make<void>()
      const slow = stage.child("a")
      const fiber = yield* Effect.forkChild(
        setUp([{ ...slow, start: Effect.tap(slow.start, Deferred.await(ready)) }, stage.child("b")])
      )
      yield* settle
      expect(stage.take()).toBe("+a")
      yield* Deferred.succeed(ready, undefined)
      yield* Fiber.join(fiber)
      expect(stage.take()).toBe("+b")
    }))

  it("fails when a child does not start, after those before it were stopped", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      stage.failing.set("b", 1)
      const error = yield* Effect.flip(setUp(["a", "b", "c"].map((id) => stage.child(id))))
      expect(error).toMatchObject({ _tag: "Escalated", supervisor: "s", child: "b" })
      expect(stage.take()).toBe("+a !b ~b -a ~a")
    }))

  it("interrupted while a child starts, stops what there is", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const slow = stage.child("b")
      const children = [stage.child("a"), { ...slow, start: Effect.andThen(slow.start, Effect.never) }]
      const fiber = yield* Effect.forkChild(
        Effect.scoped(supervise({ id: "s", strategy: "oneForOne", children }))
      )
      yield* settle
      yield* Fiber.interrupt(fiber)
      expect(stage.take()).toBe("+a +b ~b -a ~a")
    }))

  it("refuses siblings of the same name", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const exit = yield* Effect.exit(setUp([stage.child("a"), stage.child("a")]))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      expect(stage.take()).toBe("")
    }))
})

const restarts: ReadonlyArray<Restart> = ["permanent", "transient", "temporary"]
const isCrash = (how: End) => how !== "normal" && how !== "shutdown"

describe.each(restarts)("a %s child", (restart) => {
  for (const how of Object.keys(ends) as Array<End>) {
    const again = restart === "permanent" || (restart === "transient" && isCrash(how))
    it(`that ends by ${how} is ${again ? "started again" : "forgotten"}`, () =>
      Effect.gen(function* () {
        const stage = new Stage()
        const { events, ids } = yield* setUp([stage.child("a", { restart }), stage.child("b")])
        stage.take()
        events()
        stage.end("a", how)
        yield* settle
        expect(stage.take()).toBe(again ? "~a +a" : "~a")
        expect(ids()).toEqual(again ? ["a", "b"] : ["b"])
        expect(events().map((event) => event.split(" ")[0]!)).toEqual(
          again ? ["Ended", "Restarted"] : ["Ended"]
        )
      }))
  }

  it(`that does not start again is ${restart === "temporary" ? "never tried" : "tried again, each try counting as a crash"}`, () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a", { restart })], { intensity: 3 })
      stage.failing.set("a", 100)
      stage.take()
      stage.end("a")
      yield* settle
      if (restart === "temporary") return expect(stage.take()).toBe("~a")
      expect(stage.take()).toBe("~a !a ~a !a ~a !a ~a")
      expect(yield* escalation(yield* Effect.forkChild(supervisor.join))).toBe("s: a")
    }))
})

describe("strategy", () => {
  const cases: ReadonlyArray<readonly [Strategy, string, string]> = [
    ["oneForOne", "b", "~b +b"],
    ["oneForAll", "b", "~b -d ~d -c ~c -a ~a +a +b +c +d"],
    ["oneForAll", "a", "~a -d ~d -c ~c -b ~b +a +b +c +d"],
    ["restForOne", "b", "~b -d ~d -c ~c +b +c +d"],
    ["restForOne", "d", "~d +d"],
    ["restForOne", "a", "~a -d ~d -c ~c -b ~b +a +b +c +d"]
  ]
  for (const [strategy, crashed, expected] of cases) {
    it(`${strategy}: a crash of ${crashed} among a b c d gives ${expected}`, () =>
      Effect.gen(function* () {
        const stage = new Stage()
        const { ids } = yield* setUp(
          ["a", "b", "c", "d"].map((id) => stage.child(id)),
          { strategy }
        )
        stage.take()
        stage.end(crashed)
        yield* settle
        expect(stage.take()).toBe(expected)
        expect(ids()).toEqual(["a", "b", "c", "d"])
      }))
  }

  it("a temporary sibling that is stopped with its group is not started again", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp(
        [
          stage.child("a"),
          stage.child("b", { restart: "temporary" }),
          stage.child("c", { restart: "transient" })
        ],
        { strategy: "oneForAll" }
      )
      stage.take()
      stage.end("a")
      yield* settle
      expect(stage.take()).toBe("~a -c ~c -b ~b +a +c")
      expect(ids()).toEqual(["a", "c"])
    }))

  it("a normal end of a transient child leaves its group alone", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp([stage.child("a", { restart: "transient" }), stage.child("b")], {
        strategy: "oneForAll"
      })
      stage.end("a", "normal")
      yield* settle
      expect(ids()).toEqual(["b"])
    }))

  it("several of a group crashing at once are one restart", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp(
        ["a", "b", "c"].map((id) => stage.child(id)),
        {
          strategy: "oneForAll",
          intensity: 1
        }
      )
      stage.take()
      for (const id of ["b", "c", "a"]) stage.end(id)
      yield* settle
      expect(stage.take()).toBe("~b ~c ~a +a +b +c")
      expect(ids()).toEqual(["a", "b", "c"])
    }))

  it("restForOne: a start that fails in the middle leaves those before it up and tries the rest again", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      yield* setUp(
        ["a", "b", "c"].map((id) => stage.child(id)),
        { strategy: "restForOne" }
      )
      stage.failing.set("b", 1)
      stage.take()
      stage.end("a")
      yield* settle
      expect(stage.take()).toBe("~a -c ~c -b ~b +a !b ~b +b +c")
    }))

  it("oneForAll: a start that fails in the middle stops those before it and tries all again", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      yield* setUp(
        ["a", "b", "c"].map((id) => stage.child(id)),
        { strategy: "oneForAll" }
      )
      stage.failing.set("b", 1)
      stage.take()
      stage.end("a")
      yield* settle
      expect(stage.take()).toBe("~a -c ~c -b ~b +a !b ~b -a ~a +a +b +c")
    }))
})

describe.each(["oneForAll", "restForOne"] as const)("%s", (strategy) => {
  it("a transient child whose start is interrupted is forgotten, and the rest of its group started", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp(
        [stage.child("a"), stage.child("b", { restart: "transient" }), stage.child("c")],
        { strategy }
      )
      stage.interrupting.add("b")
      stage.take()
      stage.end("a")
      yield* settle
      expect(stage.take()).toBe("~a -c ~c -b ~b +a !b ~b +c")
      expect(ids()).toEqual(["a", "c"])
    }))
})

describe("restart intensity", () => {
  it("allows `intensity` restarts within the period; one more stops everyone and escalates", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { events, supervisor } = yield* setUp([stage.child("a"), stage.child("b")], {
        intensity: 2,
        periodMs: 1_000
      })
      for (let crash = 0; crash < 2; crash++) {
        stage.end("b")
        yield* settle
      }
      stage.take()
      events()
      stage.end("b")
      yield* settle
      expect(stage.take()).toBe("~b -a ~a")
      expect(events()).toEqual(["Ended b: Error: bug", "Escalated b: Error: bug", "Stopped a"])
      const error = yield* Effect.flip(supervisor.join)
      expect(error).toMatchObject({ _tag: "Escalated", supervisor: "s", child: "b", cause: new Error("bug") })
    }))

  it("is 5 in 30 s unless told", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids, supervisor } = yield* setUp([stage.child("a")])
      const join = yield* Effect.forkChild(supervisor.join)
      const crash = (times: number) =>
        Effect.gen(function* () {
          for (let time = 0; time < times; time++) {
            stage.end("a")
            yield* settle
          }
        })
      yield* crash(5)
      yield* TestClock.adjust("30001 millis")
      yield* crash(5)
      expect(ids()).toEqual(["a"])
      yield* TestClock.adjust("29999 millis")
      yield* crash(1)
      expect(yield* escalation(join)).toBe("s: a")
    }))

  it("forgets restarts older than the period", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp([stage.child("a")], { intensity: 1, periodMs: 1_000 })
      for (let crash = 0; crash < 10; crash++) {
        stage.end("a")
        yield* settle
        expect(ids()).toEqual(["a"])
        yield* TestClock.adjust(1_001)
      }
    }))

  it("counts the crashes of all children together", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a"), stage.child("b")], { intensity: 1 })
      const join = yield* Effect.forkChild(supervisor.join)
      stage.end("a")
      stage.end("b")
      expect(yield* escalation(join)).toBe("s: b")
    }))
})

describe("back-off", () => {
  const backoff = Schedule.exponential("100 millis")

  it("delays each restart more; the supervisor serves others meanwhile", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids, supervisor } = yield* setUp([stage.child("a", { backoff })])
      for (const delay of [100, 200, 400]) {
        stage.end("a")
        yield* settle
        expect(ids()).toEqual(["(a)"])
        yield* TestClock.adjust(delay - 1)
        expect(ids()).toEqual(["(a)"])
        expect(yield* supervisor.startChild(stage.child("b"))).toMatchObject({ id: "b" })
        expect(yield* supervisor.stopChild("b")).toBe(true)
        yield* TestClock.adjust(1)
        expect(ids()).toEqual(["a"])
      }
    }))

  it("begins anew once the child has stayed up for the whole period", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp([stage.child("a", { backoff })], { periodMs: 10_000 })
      for (let round = 0; round < 3; round++) {
        stage.end("a")
        yield* settle
        yield* TestClock.adjust(100)
        expect(ids()).toEqual(["a"])
        yield* TestClock.adjust(10_001)
      }
    }))

  it("goes on while the child does not start, however long it had been up before", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp([stage.child("a", { backoff })], { periodMs: 10_000 })
      yield* TestClock.adjust(20_000)
      stage.failing.set("a", 2)
      stage.end("a")
      yield* settle
      yield* TestClock.adjust(100 + 200 + 399)
      expect(ids()).toEqual(["(a)"])
      yield* TestClock.adjust(1)
      expect(ids()).toEqual(["a"])
    }))

  it("delays the group with the child that crashed, and is served in start order", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids } = yield* setUp([stage.child("a"), stage.child("b", { backoff }), stage.child("c")], {
        strategy: "restForOne"
      })
      stage.end("b")
      yield* settle
      expect(ids()).toEqual(["a", "(b)", "(c)"])
      stage.take()
      yield* TestClock.adjust(100)
      expect(stage.take()).toBe("+b +c")
    }))

  it("a wider group that crashes meanwhile takes the waiting ones over", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const slow = Schedule.spaced("1 second")
      const { ids } = yield* setUp(
        [stage.child("a"), stage.child("b", { backoff: slow }), stage.child("c")],
        {
          strategy: "restForOne"
        }
      )
      stage.end("b")
      yield* settle
      stage.take()
      stage.end("a")
      yield* settle
      expect(stage.take()).toBe("~a +a +b +c")
      yield* TestClock.adjust("2 seconds")
      expect(stage.take()).toBe("")
      expect(ids()).toEqual(["a", "b", "c"])
    }))

  it("a schedule that is done means giving up", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a", { backoff: Schedule.recurs(1) })])
      const join = yield* Effect.forkChild(supervisor.join)
      stage.end("a")
      yield* settle
      stage.end("a")
      expect(yield* escalation(join)).toBe("s: a")
    }))

  it("a shutdown gets in between; nothing is started after it", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close } = yield* setUp([stage.child("a", { backoff }), stage.child("b")])
      stage.end("a")
      yield* settle
      stage.take()
      yield* Fiber.join(yield* close)
      yield* TestClock.adjust("1 minute")
      expect(stage.take()).toBe("-b ~b")
    }))
})

describe("stop", () => {
  it("a child that ignores its interrupt is killed at its deadline", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close, events } = yield* setUp([
        stage.child("a"),
        stage.child("b", { ignores: "interrupt", shutdown: 300 })
      ])
      stage.take()
      events()
      const closing = yield* close
      yield* TestClock.adjust(299)
      expect(stage.take()).toBe("-b")
      yield* TestClock.adjust(1)
      yield* Fiber.join(closing)
      expect(stage.take()).toBe("xb ~b -a ~a")
      expect(events()).toEqual(["Stopped b", "Stopped a"])
    }))

  it("its deadline is 5 s unless told, and none for a supervisor", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const nested = (id: string) =>
        asChild({
          id: `inner-${id}`,
          strategy: "oneForOne",
          children: [stage.child(id, { ignores: "interrupt", shutdown: 60_000 })]
        })
      const { close } = yield* setUp([stage.child("a", { ignores: "interrupt" }), nested("b")])
      stage.take()
      const closing = yield* close
      yield* TestClock.adjust(59_999)
      expect(stage.take()).toBe("-b")
      yield* TestClock.adjust(1)
      expect(stage.take()).toBe("xb ~b -a")
      yield* TestClock.adjust(4_999)
      expect(stage.take()).toBe("")
      yield* TestClock.adjust(1)
      yield* Fiber.join(closing)
      expect(stage.take()).toBe("xa ~a")
    }))

  it("one that ignores its kill as well is abandoned, and the others are stopped", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close, events } = yield* setUp([
        stage.child("a"),
        stage.child("b", { ignores: "everything", shutdown: 300 })
      ])
      const late = stage.live.get("b")!
      stage.take()
      events()
      const closing = yield* close
      yield* TestClock.adjust(1_300)
      yield* Fiber.join(closing)
      expect(stage.take()).toBe("-b xb -a ~a")
      expect(events()).toEqual(["Abandoned b", "Stopped a"])
      late.end("normal")
      yield* settle
      expect(stage.take()).toBe("~b")
    }))

  it("those that are stopped together take no longer than one of them", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const stubborn = (id: string) => stage.child(id, { ignores: "interrupt", shutdown: 300 })
      const { close, events } = yield* setUp([stubborn("a"), stage.child("b"), stubborn("c")], {
        stopsTogether: true
      })
      stage.take()
      const closing = yield* close
      yield* settle
      expect(stage.take()).toBe("-c -b ~b -a")
      yield* TestClock.adjust(300)
      yield* Fiber.join(closing)
      expect(stage.take()).toBe("xc ~c xa ~a")
      expect(events()).toEqual(["Started a", "Started b", "Started c", "Stopped b", "Stopped c", "Stopped a"])
    }))

  it("`kill` does not ask first; `infinity` waits as long as it takes", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close } = yield* setUp([
        stage.child("a", { shutdown: "infinity", ignores: "interrupt" }),
        stage.child("b", { shutdown: "kill", ignores: "interrupt" })
      ])
      stage.take()
      const closing = yield* close
      yield* TestClock.adjust("10 days")
      expect(stage.take()).toBe("xb ~b -a")
      expect(closing.pollUnsafe()).toBe(undefined)
      stage.end("a", "shutdown")
      yield* Fiber.join(closing)
      expect(stage.take()).toBe("~a")
    }))

  it("a release that hangs is abandoned at the same deadline", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const child = stage.child("a", { shutdown: 300 })
      const start = Effect.andThen(
        Effect.addFinalizer(() => Effect.never),
        child.start
      )
      const { close, events } = yield* setUp([{ ...child, start }])
      events()
      const closing = yield* close
      yield* TestClock.adjust(1_300)
      yield* Fiber.join(closing)
      expect(events()).toEqual(["Abandoned a"])
    }))

  it("a crashed child whose release hangs is abandoned, and started again", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const child = stage.child("a", { shutdown: 300 })
      const start = Effect.andThen(
        Effect.addFinalizer(() => Effect.never),
        child.start
      )
      const { close, events } = yield* setUp([{ ...child, start }])
      stage.end("a")
      yield* TestClock.adjust(300)
      yield* settle
      expect(events()).toEqual(["Started a", "Ended a: Error: bug", "Abandoned a", "Restarted a"])
      const closing = yield* close
      yield* TestClock.adjust(1_300)
      yield* Fiber.join(closing)
    }))

  it("its Down comes after those of its children", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a"), stage.child("b")])
      stage.take()
      supervisor.process.watch(({ id }) => stage.log.push(`down ${id}`))
      supervisor.process.interrupt()
      yield* settle
      expect(stage.take()).toBe("-b ~b -a ~a down s")
    }))
})

describe("dynamic children", () => {
  it("are started last, stopped first, and can be stopped one by one", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close, ids, supervisor } = yield* setUp([stage.child("a")])
      for (const id of ["b", "c"]) yield* supervisor.startChild(stage.child(id))
      expect(yield* supervisor.stopChild("b")).toBe(true)
      expect(yield* supervisor.stopChild("b")).toBe(false)
      expect(ids()).toEqual(["a", "c"])
      expect(stage.take()).toBe("+a +b +c -b ~b")
      yield* Fiber.join(yield* close)
      expect(stage.take()).toBe("-c ~c -a ~a")
    }))

  it("a name that is taken, also by one that waits for its restart, is refused", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a", { backoff: Schedule.spaced("1 second") })])
      const duplicate = new DuplicateChild({ child: "a" })
      expect(yield* Effect.flip(supervisor.startChild(stage.child("a")))).toEqual(duplicate)
      stage.end("a")
      yield* settle
      expect(yield* Effect.flip(supervisor.startChild(stage.child("a")))).toEqual(duplicate)
    }))

  it("one that fails to start is reported, not kept, and no crash", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids, supervisor } = yield* setUp([stage.child("a")], { intensity: 0 })
      stage.failing.set("b", 1)
      expect(yield* Effect.flip(supervisor.startChild(stage.child("b")))).toEqual(
        new StartFailed({ child: "b", cause: "no start" })
      )
      expect(ids()).toEqual(["a"])
    }))

  it("startChild with a child that has no name is a defect of who asks, not of the supervisor", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a")])
      const exit = yield* Effect.exit(supervisor.startChild(stage.child("")))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      expect(yield* supervisor.startChild(stage.child("b"))).toMatchObject({ id: "b" })
    }))

  it("restartChild stops and starts one child, which does not count", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { ids, supervisor } = yield* setUp([stage.child("a"), stage.child("b")], {
        strategy: "oneForAll",
        intensity: 0
      })
      stage.take()
      expect(yield* supervisor.restartChild("a")).toBe(true)
      expect(yield* supervisor.restartChild("z")).toBe(false)
      expect(stage.take()).toBe("-a ~a +a")
      expect(ids()).toEqual(["a", "b"])
    }))

  it("restartChild on one that waits starts its group at once", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const backoff = Schedule.spaced("1 second")
      const { supervisor } = yield* setUp([stage.child("a", { backoff }), stage.child("b")], {
        strategy: "restForOne"
      })
      stage.end("a")
      yield* settle
      stage.take()
      expect(yield* supervisor.restartChild("b")).toBe(true)
      expect(stage.take()).toBe("+a +b")
      yield* TestClock.adjust("2 seconds")
      expect(stage.take()).toBe("")
    }))

  it("restartChild whose start fails is a crash like any other", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { supervisor } = yield* setUp([stage.child("a")], { intensity: 0 })
      stage.failing.set("a", 1)
      expect(yield* Effect.flip(supervisor.restartChild("a"))).toEqual(
        new SupervisorStopped({ supervisor: "s" })
      )
    }))

  it("stopping a child that waits for its restart lets the others of its group go on", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const backoff = Schedule.spaced("1 second")
      const { ids, supervisor } = yield* setUp([stage.child("a", { backoff }), stage.child("b")], {
        strategy: "oneForAll"
      })
      stage.end("a")
      yield* settle
      expect(ids()).toEqual(["(a)", "(b)"])
      expect(yield* supervisor.stopChild("a")).toBe(true)
      yield* settle
      expect(ids()).toEqual(["b"])
    }))

  it("stopping one that waits only because of another starts nobody", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const [long, short] = [5, 1].map((seconds) => Schedule.spaced(`${seconds} seconds`))
      const { ids, supervisor } = yield* setUp(
        [stage.child("a", { backoff: long! }), stage.child("b", { backoff: short! }), stage.child("c")],
        { strategy: "restForOne" }
      )
      for (const id of ["b", "a"]) {
        stage.end(id)
        yield* settle
      }
      expect(yield* supervisor.stopChild("b")).toBe(true)
      yield* settle
      expect(ids()).toEqual(["(a)", "(c)"])
    }))

  it("a stopped supervisor answers SupervisorStopped, also to those who were waiting", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const { close, supervisor } = yield* setUp([stage.child("a")])
      const slow = stage.child("b")
      const start = Effect.andThen(Effect.never, slow.start)
      const waiting = [
        yield* Effect.forkChild(Effect.flip(supervisor.startChild({ ...slow, start }))),
        yield* Effect.forkChild(Effect.flip(supervisor.stopChild("a")))
      ]
      yield* settle
      yield* Fiber.join(yield* close)
      const stopped = new SupervisorStopped({ supervisor: "s" })
      expect(yield* Fiber.joinAll(waiting)).toEqual([stopped, stopped])
      expect(yield* Effect.flip(supervisor.restartChild("a"))).toEqual(stopped)
    }))
})

describe("nested supervisors", () => {
  it("stop from the inside out, in reverse order", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const inner = asChild({
        id: "inner",
        strategy: "oneForOne",
        children: ["b", "c"].map((id) => stage.child(id))
      })
      const { close } = yield* setUp([stage.child("a"), inner, stage.child("d")])
      expect(stage.take()).toBe("+a +b +c +d")
      yield* Fiber.join(yield* close)
      expect(stage.take()).toBe("-d ~d -c ~c -b ~b -a ~a")
    }))

  it("one that gives up is a crash its parent restarts, with all its children", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const inner = asChild({
        id: "inner",
        strategy: "oneForOne",
        children: ["b", "c"].map((id) => stage.child(id)),
        intensity: 0
      })
      const { events } = yield* setUp([stage.child("a"), inner])
      stage.take()
      events()
      stage.end("c")
      yield* settle
      expect(stage.take()).toBe("~c -b ~b +b +c")
      expect(events().map((event) => event.split(":")[0]!)).toEqual(["Ended inner", "Restarted inner"])
    }))

  it("escalates through every level; no more restarts than the product of the intensities allows", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const middle = asChild({
        id: "middle",
        strategy: "oneForOne",
        intensity: 2,
        children: [
          asChild({ id: "inner", strategy: "oneForOne", intensity: 3, children: [stage.child("a")] })
        ]
      })
      const { supervisor } = yield* setUp([middle], { intensity: 1 })
      const join = yield* Effect.forkChild(supervisor.join)
      let starts = 1
      while (stage.live.has("a")) {
        stage.end("a")
        yield* settle
        if (stage.live.has("a")) starts++
      }
      expect(starts).toBe((1 + 1) * (2 + 1) * (3 + 1))
      expect(yield* escalation(join)).toBe("s: middle")
    }))
})

describe("every kind of process", () => {
  it("cells: stopped, killed at the deadline, restarted after a crash", () =>
    Effect.gen(function* () {
      const { dispatcher, drain } = manualTurn()
      let ref = spawn<string>({ id: "none", capacity: 1, dispatcher, receive: () => {} })
      const cell: ChildSpec = {
        id: "cell",
        shutdown: 100,
        start: Effect.sync(() => {
          ref = spawn<string>({
            id: "cell",
            capacity: 10,
            dispatcher,
            receive: (message) => {
              if (message === "hang") return Effect.never
              throw new Error(message)
            }
          })
          return ref
        })
      }
      const { close, events } = yield* setUp([cell])
      const first = ref
      ref.tell("crash")
      drain()
      yield* settle
      expect(events()).toEqual(["Started cell", "Ended cell: Error: crash", "Restarted cell"])
      expect(ref.incarnation).not.toBe(first.incarnation)
      ref.tell("hang")
      drain()
      const closing = yield* close
      drain()
      yield* TestClock.adjust(100)
      drain()
      yield* Fiber.join(closing)
      expect(events()).toEqual(["Stopped cell"])
    }))

  it("fibers: failures and defects restart them, closing the scope leaves none running", () =>
    Effect.gen(function* () {
      let running = 0
      const gates: Array<Deferred.Deferred<void, string>> = []
      const fiber: ChildSpec = {
        id: "fiber",
        start: Effect.gen(function* () {
          const gate = yield* Deferred.make<void, string>()
          gates.push(gate)
          const body = Effect.acquireUseRelease(
            Effect.sync(() => running++),
            () => Deferred.await(gate),
            () => Effect.sync(() => running--)
          )
          return processOfFiber("fiber", yield* Effect.forkScoped(body))
        })
      }
      const { close, events } = yield* setUp([fiber])
      yield* settle
      yield* Deferred.fail(gates[0]!, "no")
      yield* settle
      yield* Deferred.die(gates[1]!, "bug")
      yield* settle
      expect(running).toBe(1)
      yield* Fiber.join(yield* close)
      expect(running).toBe(0)
      expect(events().map((event) => event.split(":")[0]!)).toEqual([
        "Started fiber",
        "Ended fiber",
        "Restarted fiber",
        "Ended fiber",
        "Restarted fiber",
        "Stopped fiber"
      ])
    }))

  it("fibers: an uninterruptible one is abandoned", () =>
    Effect.gen(function* () {
      const stuck: ChildSpec = {
        id: "stuck",
        shutdown: 100,
        start: Effect.map(
          Effect.forkScoped(Effect.uninterruptible(Effect.never), { startImmediately: true }),
          (fiber) => processOfFiber("stuck", fiber)
        )
      }
      const { close, events } = yield* setUp([stuck])
      const closing = yield* close
      yield* TestClock.adjust(1_100)
      yield* Fiber.join(closing)
      expect(events()).toEqual(["Started stuck", "Abandoned stuck"])
    }))

  it("anything that is down already when it has started counts as ended", () =>
    Effect.gen(function* () {
      const watchers = new Watchers()
      watchers.announce({ id: "a", incarnation: 1, exit: Exit.void })
      const dead: ChildSpec = {
        id: "a",
        restart: "transient",
        start: Effect.succeed({ id: "a", interrupt: () => {}, watch: (onDown) => watchers.watch(onDown) })
      }
      const { events, ids } = yield* setUp([dead])
      yield* settle
      expect(events()).toEqual(["Started a", "Ended a normally"])
      expect(ids()).toEqual([])
    }))
})
