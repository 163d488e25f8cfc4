import * as Effect from "effect/Effect"
import { Argument, Command, Flag } from "effect/cli"
import { jsonFlag, textFlag } from "./flags.ts"
import type { ExplainFlags } from "./explainLive.ts"

/** `parallax explain`: why a request of a running cluster went where it went. */
export const explainCommand = Command.make(
  "explain",
  {
    id: Argument.String("id").pipe(
      Argument.withDescription(
        "Id of the request: `bun run client` says it, and the header x-request-id of POST /generate."
      )
    ),
    address: Flag.String("address").pipe(
      Flag.withDescription("Address of the balancer's HTTP listener. Default: 127.0.0.1:8080."),
      Flag.withMetavar("host:port"),
      Flag.withDefault("127.0.0.1:8080")
    ),
    credential: textFlag(
      "credential",
      "Credential of a client. Default: the first of PARALLAX_AUTH_CLIENTS, which others cannot see."
    ),
    json: jsonFlag("the whole account")
  },
  Effect.fnUntraced(function* (flags: ExplainFlags) {
    const { explainLive } = yield* Effect.promise(() => import("./explainLive.ts"))
    yield* explainLive(flags)
  })
).pipe(
  Command.withDescription(
    "Say why a request of a running cluster went where it went: who could have served it, at what cost, who could not, and what came of it."
  ),
  Command.withExamples([
    { command: "bun run explain 9f3c52d17be04a68", description: "A request that was sent a moment ago" }
  ])
)
