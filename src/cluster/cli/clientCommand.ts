import * as Effect from "effect/Effect"
import { Argument, Command } from "effect/cli"
import { TOKENS_MAX } from "../../gateway/GenerateBody.ts"
import { addressFlag, countFlag, jsonFlag, nameFlag, textFlag } from "./flags.ts"
import type { ClientFlags } from "./runClient.ts"

/** `parallax client`: one request, its answer streamed to standard output. */
export const clientCommand = Command.make(
  "client",
  {
    prompt: Argument.String("prompt").pipe(Argument.withDescription("What to answer.")),
    address: addressFlag,
    model: textFlag("model", "Model to ask. Default: the first the balancer serves."),
    maxTokens: countFlag("max-tokens", "Most tokens to produce. Default: 64.", 64, TOKENS_MAX),
    timeout: textFlag(
      "timeout",
      'Give up after this time, as "5 seconds". Default: the limit of the balancer.'
    ),
    session: textFlag(
      "session",
      "Session the request belongs to: requests of one session like to meet on one worker."
    ),
    tenant: textFlag("tenant", "Tenant that the request is accounted to. Default: the tenant named default."),
    name: nameFlag,
    credential: textFlag(
      "credential",
      "Credential of this client. Default: the first of PARALLAX_AUTH_CLIENTS, which others cannot see."
    ),
    json: jsonFlag("one document at the end")
  },
  Effect.fnUntraced(function* (flags: ClientFlags) {
    const { runClient } = yield* Effect.promise(() => import("./runClient.ts"))
    yield* runClient(flags)
  })
).pipe(
  Command.withDescription("Send one request and stream its answer."),
  Command.withExamples([
    { command: 'bun run client --max-tokens 16 "Why is the sky blue?"', description: "Stream an answer" }
  ])
)
