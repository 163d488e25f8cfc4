import * as Effect from "effect/Effect"
import { Command } from "effect/cli"
import { adminFlags, jsonFlag } from "./flags.ts"
import type { StatusFlags } from "./runStatus.ts"

/** `parallax status`: what a running cluster does now. */
export const statusCommand = Command.make(
  "status",
  { ...adminFlags, json: jsonFlag("the snapshot of the balancer") },
  Effect.fnUntraced(function* (flags: StatusFlags) {
    const { runStatus } = yield* Effect.promise(() => import("./runStatus.ts"))
    yield* runStatus(flags)
  })
).pipe(
  Command.withDescription(
    "Show what a running cluster does now: its requests and how they ended, what waits for each model, and each worker with its load."
  ),
  Command.withExamples([{ command: "bun run status", description: "The cluster of this machine" }])
)
