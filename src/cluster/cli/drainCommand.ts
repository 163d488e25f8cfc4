import * as Effect from "effect/Effect"
import { Argument, Command } from "effect/cli"
import { adminFlags, jsonFlag, switchFlag } from "./flags.ts"
import type { DrainFlags } from "./runDrain.ts"

/** `parallax drain`: takes a worker of a running cluster out. */
export const drainCommand = Command.make(
  "drain",
  {
    worker: Argument.String("worker").pipe(
      Argument.withDescription("Name of the worker: `bun run status` shows them.")
    ),
    ...adminFlags,
    wait: switchFlag(
      "wait",
      "Return when it has no requests left, after 15 minutes at the latest. Ctrl-C leaves it draining."
    ),
    json: jsonFlag("how many requests it has left")
  },
  Effect.fnUntraced(function* (flags: DrainFlags) {
    const { runDrain } = yield* Effect.promise(() => import("./runDrain.ts"))
    yield* runDrain(flags)
  })
).pipe(
  Command.withDescription(
    "Take a worker of a running cluster out: it gets no new requests, finishes those it has, and leaves. " +
      "One that the cluster itself has started is replaced: at once by one of another name where workersMax leaves room, otherwise under its own name when it has left. " +
      "One that was started by hand stays away."
  ),
  Command.withExamples([
    { command: "bun run drain --wait worker-17", description: "Before its machine is switched off" }
  ])
)
