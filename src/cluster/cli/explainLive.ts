import * as Effect from "effect/Effect"
import type { LiveExplanation } from "../../domain/Explanation.ts"
import { isRequestId } from "../../domain/requestId.ts"
import { liveExplanationText } from "../explanationText.ts"
import { type CliFailure, failed, misused } from "./CliFailure.ts"
import { credentialIn } from "./credentialIn.ts"
import { write, Shell } from "./Shell.ts"

export interface ExplainFlags {
  readonly id: string
  readonly address: string
  readonly credential: string | undefined
  readonly json: boolean
}

/** Asks the HTTP listener of a balancer about a request and prints what it says. */
export const explainLive = Effect.fnUntraced(function* ({
  address,
  credential,
  id,
  json
}: ExplainFlags): Effect.fn.Return<void, CliFailure, Shell> {
  const shell = yield* Shell
  if (!isRequestId(id)) return yield* misused(`"${id}" is no id: expected 16 hexadecimal digits.`)
  const url = `http://${address}/admin/decisions/${id}`
  if (!URL.canParse(url))
    return yield* misused(`--address: "${address}" is not an address: expected host:port.`)
  const secret = credential ?? credentialIn(shell, "CLIENTS")
  const { body, ok, status } = yield* Effect.tryPromise({
    try: (signal) => ask(url, secret, signal),
    catch: () => failed(`No HTTP answer from ${address}. Is it the HTTP address that the cluster printed?`)
  })
  if (!ok) {
    const message = messageIn(body) ?? `${address} did not answer as a balancer does.`
    return yield* failed(
      status === 401 ? `${message} Give it with --credential, or set PARALLAX_AUTH_CLIENTS.` : message
    )
  }
  const text = json ? `${body.trimEnd()}\n` : liveExplanationText(JSON.parse(body) as LiveExplanation)
  yield* write(text)
})

const ask = async (
  url: string,
  secret: string | undefined,
  signal: AbortSignal
): Promise<{ readonly ok: boolean; readonly status: number; readonly body: string }> => {
  const headers = secret === undefined ? {} : { authorization: `Bearer ${secret}` }
  const response = await fetch(url, { headers, signal })
  return { ok: response.ok, status: response.status, body: await response.text() }
}

/** What an error of the listener says. */
const messageIn = (body: string): string | undefined => {
  try {
    const { error } = JSON.parse(body) as { readonly error?: { readonly message?: string } }
    return error?.message && `${error.message[0]!.toUpperCase()}${error.message.slice(1)}.`
  } catch {
    return undefined
  }
}
