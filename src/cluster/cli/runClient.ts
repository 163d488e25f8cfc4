import * as Effect from "effect/Effect"
import { connect, type Client, type Done, type Ending } from "../../client/index.ts"
import { parseDuration } from "../../domain/config/duration.ts"
import { TIMEOUT_MS_MAX } from "../../gateway/GenerateBody.ts"
import { counted } from "../../structures/counted.ts"
import { readAddress } from "../readAddress.ts"
import { attempt } from "./attempt.ts"
import { type CliFailure, failed, misused } from "./CliFailure.ts"
import { credentialIn } from "./credentialIn.ts"
import { jsonLine } from "./jsonLine.ts"
import { Shell, type Surroundings, write } from "./Shell.ts"

export interface ClientFlags {
  readonly prompt: string
  readonly address: string
  readonly model: string | undefined
  readonly maxTokens: number
  readonly timeout: string | undefined
  readonly session: string | undefined
  readonly tenant: string | undefined
  readonly name: string | undefined
  readonly credential: string | undefined
  readonly json: boolean
}

/**
 * Sends one request and shows its answer. Fails unless the answer is complete, or nobody reads it any more, which calls it off; with `json`
 * the document says so as well.
 */
export const runClient = Effect.fnUntraced(function* (
  flags: ClientFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const shell = yield* Shell
  const timeoutMs = flags.timeout === undefined ? undefined : parseDuration(flags.timeout)
  if (
    flags.timeout !== undefined &&
    !(timeoutMs !== undefined && timeoutMs >= 1 && timeoutMs <= TIMEOUT_MS_MAX)
  )
    return yield* misused(
      '--timeout must be a time with its unit (millis, seconds, minutes, hours) from "1 milli" to "24 hours", for example "5 seconds".'
    )
  if (flags.prompt === "") return yield* misused("The prompt is empty.")
  yield* readAddress(flags.address)
  const answer = Effect.acquireUseRelease(
    attempt(() => open(flags, shell)),
    (client) => attempt((signal) => ask(client, flags, timeoutMs, shell, signal)),
    (client) => Effect.promise(() => client.close())
  )
  const { id, text, ending, isRead } = yield* flags.json
    ? Effect.tapError(answer, ({ exitCode, message }) =>
        exitCode === 2
          ? Effect.void
          : print({ outcome: "error", reason: "not_connected", tokens: 0, message })
      )
    : Effect.onInterrupt(answer, () => Effect.sync(() => shell.err("\n")))
  if (!isRead) return
  if (flags.json) yield* print({ id, ...documentOf(ending, text) })
  else shell.err(ending.outcome === "done" ? `\n${summaryOf(ending)}, request ${id}\n` : "\n")
  if (ending.outcome !== "done")
    return yield* failed(`Request ${id} ended as ${ending.outcome}: ${ending.reason}. ${ending.message}`)
})

const open = (flags: ClientFlags, shell: Surroundings): Promise<Client> =>
  connect({
    address: flags.address,
    tenant: flags.tenant,
    identity: flags.name,
    credential: flags.credential ?? credentialIn(shell, "CLIENTS"),
    reconnect: { attemptsMax: 2 }
  })

const ask = async (
  client: Client,
  { prompt, model, maxTokens, session, json }: ClientFlags,
  timeoutMs: number | undefined,
  shell: Surroundings,
  signal: AbortSignal
): Promise<{
  readonly id: string
  readonly text: string
  readonly ending: Ending
  readonly isRead: boolean
}> => {
  const generation = client.generate({
    prompt,
    model,
    maxTokens,
    session,
    timeoutMs: timeoutMs && Math.ceil(timeoutMs),
    signal
  })
  let text = ""
  let isRead = true
  for await (const token of generation) {
    if (json) text += token.text
    else isRead = await shell.out(token.text)
    if (!isRead) break
  }
  return { id: generation.id, text, ending: await generation.ended, isRead }
}

const print = (document: unknown): Effect.Effect<void, CliFailure, Shell> => write(jsonLine(document))

const documentOf = (ending: Ending, text: string): object => ({
  tokens: "delivered" in ending ? ending.delivered : 0,
  ...ending,
  text
})

const summaryOf = ({ tokens, e2eMs, ttftMs, worker }: Done): string =>
  `${counted(tokens, "token")} in ${ms(e2eMs)}, the first after ${ms(ttftMs ?? e2eMs)}, from ${worker}`

const ms = (value: number): string => `${value.toFixed(1)} ms`
