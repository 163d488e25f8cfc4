import { expect, test } from "bun:test"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { supervise, type Supervisor } from "../../../src/actors/runtime/Supervisor.ts"
import { type End, ends, Stage } from "./stage.ts"
import { counted, settle, virtual } from "./virtualTime.ts"

const ids = ["a", "b", "c", "d", "e", "f"]
const id = fc.constantFrom(...ids)
const how = fc.constantFrom(...(Object.keys(ends) as Array<End>))
const restart = fc.constantFrom("permanent" as const, "transient" as const, "temporary" as const)
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("end" as const), id, how }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("fail" as const, "interrupt" as const), id }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("start" as const), id, restart }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("stop" as const, "restart" as const), id }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 200 }) })
  }
)
const scenario = fc.record({
  strategy: fc.constantFrom("oneForOne" as const, "oneForAll" as const, "restForOne" as const),
  intensity: fc.integer({ min: 0, max: 5 }),
  backoffMs: fc.constantFrom(0, 50),
  children: fc.array(restart, { minLength: 1, maxLength: 4 }),
  steps: fc.array(step, { maxLength: 40, size: "max" })
})
type Scenario = typeof scenario extends fc.Arbitrary<infer S> ? S : never

const PERIOD_MS = 500

const running = (supervisor: Supervisor): ReadonlyArray<string> =>
  supervisor
    .children()
    .filter(({ process }) => process !== undefined)
    .map(({ id }) => id)

/** The ids of the log's lines that begin with `mark`. */
const marked = (log: ReadonlyArray<string>, mark: string): ReadonlyArray<string> =>
  log.filter((line) => line.startsWith(mark)).map((line) => line.slice(1))

/** The ids that were stopped, in groups: what was stopped between two starts. */
const stops = (log: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<string>> =>
  log
    .join(" ")
    .split(/[+!]./)
    .map((group) => marked(group.split(" "), "-"))

const play = Effect.fnUntraced(function* (
  { backoffMs, children, intensity, steps, strategy }: Scenario,
  fiberCount: () => number
) {
  const fibersBefore = fiberCount()
  const stage = new Stage()
  const clock = yield* Clock.Clock
  const restartsMs: Array<number> = []
  let escalated = false
  const make = (id: string, restart: Scenario["children"][number]) =>
    stage.child(id, { restart, ...(backoffMs > 0 && { backoff: Schedule.spaced(backoffMs) }) })
  const scope = yield* Scope.make()
  const supervisor = yield* Scope.provide(
    supervise({
      id: "s",
      strategy,
      intensity,
      periodMs: PERIOD_MS,
      children: children.map((restart, index) => make(ids[index]!, restart)),
      onEvent: ({ _tag }) => {
        if (_tag === "Escalated") escalated = true
        if (_tag === "Restarted") restartsMs.push(clock.currentTimeMillisUnsafe())
      }
    }),
    scope
  )
  for (const step of steps) {
    const order = supervisor.children().map(({ id }) => id)
    if (step.do === "start") order.push(step.id)
    const logged = stage.log.length
    if (step.do === "end") stage.live.get(step.id)?.end(step.how)
    else if (step.do === "fail") stage.failing.set(step.id, 1)
    else if (step.do === "interrupt") stage.interrupting.add(step.id)
    else if (step.do === "wait") yield* TestClock.adjust(step.ms)
    else if (step.do === "start") yield* Effect.ignore(supervisor.startChild(make(step.id, step.restart)))
    else if (step.do === "stop") yield* Effect.ignore(supervisor.stopChild(step.id))
    else yield* Effect.ignore(supervisor.restartChild(step.id))
    yield* settle
    const told = step.do === "stop" || step.do === "restart" ? `-${step.id}` : ""
    for (const stopped of stops(stage.log.slice(logged).filter((line) => line !== told))) {
      expect(stopped).toEqual(order.filter((id) => stopped.includes(id)).toReversed())
    }
    expect(running(supervisor).toSorted()).toEqual([...stage.live.keys()].toSorted())
    if (escalated) expect(running(supervisor)).toEqual([])
  }
  if (strategy === "oneForOne" && backoffMs === 0 && steps.every((step) => step.do !== "restart")) {
    for (const at of restartsMs) {
      const near = restartsMs.filter((each) => each >= at && each <= at + PERIOD_MS)
      expect(near.length).toBeLessThanOrEqual(intensity)
    }
  }
  yield* TestClock.adjust(1_000)
  yield* settle
  const last = running(supervisor)
  if (!escalated) expect(last).toEqual(supervisor.children().map(({ id }) => id))
  const logged = stage.log.length
  yield* Scope.close(scope, Exit.void)
  expect(marked(stage.log.slice(logged), "-")).toEqual(last.toReversed())
  expect(stage.live.size).toBe(0)
  yield* settle
  expect(fiberCount()).toBe(fibersBefore)
  const begun = [...marked(stage.log, "+"), ...marked(stage.log, "!")]
  expect(marked(stage.log, "~").toSorted()).toEqual(begun.toSorted())
})

test("whatever happens: reverse order, one incarnation at a time, everything released, no fiber left, intensity kept, nobody forgotten", () =>
  fc.assert(
    fc.asyncProperty(scenario, (scenario) => virtual(counted((fiberCount) => play(scenario, fiberCount)))),
    { numRuns: 150 }
  ))
