import { expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SupervisionEvent } from "../../src/actors/runtime/Supervisor.ts"
import { type EventLog, eventLog } from "../../src/cluster/eventLog.ts"
import { logging } from "../../src/observability/Logging.ts"
import type { Timers } from "../../src/protocol/Timers.ts"
import { virtualTimers } from "../protocol/support/virtualTimers.ts"

interface Line {
  readonly level: string
  readonly message: string
}

const linesOf = (tell: (log: EventLog) => void, timers?: Timers): ReadonlyArray<Line> => {
  const written: Array<string> = []
  const write = (line: string): void => void written.push(line)
  const told = Effect.map(eventLog(timers), tell)
  Effect.runSync(told.pipe(Effect.provide(logging({ level: "debug", format: "json", write }))))
  return written.map((line) => JSON.parse(line) as Line)
}

test.each<readonly [string, SupervisionEvent["_tag"], Exit.Exit<unknown, unknown> | undefined, string]>([
  ["a worker that was done and left", "Ended", Exit.void, "INFO"],
  ["one that failed", "Ended", Exit.fail("crash"), "WARN"],
  ["one of which nothing is known", "Ended", undefined, "WARN"],
  ["one that was stopped", "Stopped", Exit.void, "DEBUG"],
  ["one that did not stop", "Abandoned", Exit.void, "WARN"],
  ["a supervisor that gave up", "Escalated", Exit.fail("crash"), "ERROR"]
])("%s is logged at its level", (_, _tag, exit, level) =>
  expect(
    linesOf(({ supervision }) =>
      supervision({ supervisor: "workers", child: "sim-0", _tag, ...(exit === undefined ? {} : { exit }) })
    )
  ).toMatchObject([{ level }])
)

test.each([
  [undefined, undefined, "DEBUG", "worker sim-0 is connected"],
  ["goodbye: drain (drained)", "drain", "DEBUG", "worker sim-0 is gone: goodbye: drain (drained)"],
  ["goodbye: flood (drained)", "flood", "WARN", "worker sim-0 is gone: goodbye: flood (drained)"],
  ["done", "done", "DEBUG", "worker sim-0 is gone: done"],
  ["lost: no heartbeat", undefined, "WARN", "worker sim-0 is gone: lost: no heartbeat"],
  ["closed", undefined, "WARN", "worker sim-0 is gone: closed"]
])("a worker that is gone (%s) is logged, as a warning unless it said so", (gone, code, level, message) =>
  expect(linesOf(({ worker }) => worker("sim-0", gone, code))).toMatchObject([{ level, message }])
)

test("workers that come and go all the time do not fill the log, nor hide each other; how much is left out is said", () => {
  const { advance, alarmCount, timers } = virtualTimers()
  const lines = linesOf(({ worker }) => {
    // For a minute, a thousand a second.
    for (let i = 0; i < 60_000; i++) {
      worker("loop", undefined)
      worker("loop", "closed")
      if (i === 500) worker("sim-0", "lost: no heartbeat")
      advance(1)
    }
    advance(10_000)
    worker("loop", "closed")
    advance(10_000)
  }, timers)
  expect(alarmCount()).toBe(0)
  const warnings = lines.filter(({ level }) => level === "WARN").map(({ message }) => message)
  const left = warnings.filter((message) => message.startsWith("left out: "))
  expect(left).toEqual(
    Array.from({ length: 6 }, () => "left out: 9995 more lines about workers that come and go")
  )
  expect(warnings.filter((message) => message === "worker sim-0 is gone: lost: no heartbeat")).toHaveLength(1)
  expect(warnings).toHaveLength(6 * (5 + 1) + 1 + 1)
  expect(warnings.at(-1)).toBe("worker loop is gone: closed")
  expect(lines.filter(({ level }) => level === "DEBUG")).toHaveLength(6 * (5 + 1))
})

test("workers under ever new names do not fill the log either", () => {
  const { advance, timers } = virtualTimers()
  const lines = linesOf(({ worker }) => {
    for (let i = 0; i < 2_000; i++) worker(`sim-${i}`, "closed")
    advance(10_000)
  }, timers)
  expect(lines.slice(99).map(({ message }) => message)).toEqual([
    "worker sim-99 is gone: closed",
    "left out: 1900 more lines about workers that come and go"
  ])
})
