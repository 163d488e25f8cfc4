import { expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SupervisionEvent } from "../../src/actors/runtime/Supervisor.ts"
import { type EventLog, eventLog } from "../../src/cluster/eventLog.ts"
import { logging } from "../../src/observability/Logging.ts"

const linesOf = (tell: (log: EventLog) => void): ReadonlyArray<{ readonly level: string }> => {
  const written: Array<string> = []
  const write = (line: string): void => void written.push(line)
  const told = Effect.map(eventLog, tell)
  Effect.runSync(told.pipe(Effect.provide(logging({ level: "debug", format: "json", write }))))
  return written.map((line) => JSON.parse(line) as { readonly level: string })
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
