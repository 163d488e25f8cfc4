import { expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SupervisionEvent } from "../../src/actors/runtime/Supervisor.ts"
import { eventLog } from "../../src/cluster/eventLog.ts"
import { logging } from "../../src/observability/Logging.ts"

const levelsOf = (event: Omit<SupervisionEvent, "supervisor" | "child">): ReadonlyArray<string> => {
  const written: Array<string> = []
  const write = (line: string): void => void written.push(line)
  const told = Effect.map(eventLog, ({ supervision }) =>
    supervision({ supervisor: "workers", child: "sim-0", ...event })
  )
  Effect.runSync(told.pipe(Effect.provide(logging({ level: "debug", format: "json", write }))))
  return written.map((line) => (JSON.parse(line) as { readonly level: string }).level)
}

test.each<readonly [string, SupervisionEvent["_tag"], Exit.Exit<unknown, unknown> | undefined, string]>([
  ["a worker that was done and left", "Ended", Exit.void, "INFO"],
  ["one that failed", "Ended", Exit.fail("crash"), "WARN"],
  ["one of which nothing is known", "Ended", undefined, "WARN"],
  ["one that was stopped", "Stopped", Exit.void, "DEBUG"],
  ["one that did not stop", "Abandoned", Exit.void, "WARN"],
  ["a supervisor that gave up", "Escalated", Exit.fail("crash"), "ERROR"]
])("%s is logged at its level", (_, _tag, exit, level) =>
  expect(levelsOf({ _tag, ...(exit === undefined ? {} : { exit }) })).toEqual([level])
)
