import * as Effect from "effect/Effect"
import { formatAddress, parseAddress } from "../../client/address.ts"
import type { LiveExplanation } from "../../domain/Explanation.ts"
import { isRequestId } from "../../domain/requestId.ts"
import { isRecord, recordIn } from "../../structures/record.ts"
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

/** How long an answer may take: as for the snapshot of an operator. */
const ANSWER_MS = 10_000

/** Asks the HTTP listener of a balancer about a request and prints what it says. */
export const explainLive = Effect.fnUntraced(function* ({
  address,
  credential,
  id,
  json
}: ExplainFlags): Effect.fn.Return<void, CliFailure, Shell> {
  const shell = yield* Shell
  if (!isRequestId(id)) return yield* misused(`"${id}" is no id: expected 16 hexadecimal digits.`)
  const listener = yield* Effect.try({
    try: () => formatAddress(parseAddress(withoutScheme(address))),
    catch: () => misused(`--address: "${address}" is not an address: expected host:port.`)
  })
  const url = `http://${listener}/admin/decisions/${id}`
  const secret = credential ?? credentialIn(shell, "CLIENTS")
  const { body, ok, status } = yield* Effect.tryPromise({
    try: (signal) => ask(url, secret, signal),
    catch: () => unanswered(address)
  }).pipe(Effect.timeoutOrElse({ duration: ANSWER_MS, orElse: () => unanswered(address) }))
  if (!ok) {
    const message = messageIn(body) ?? stranger(address).message
    return yield* failed(
      status === 401 ? `${message} Give it with --credential, or set PARALLAX_AUTH_CLIENTS.` : message
    )
  }
  const explanation = explanationIn(body, id)
  if (explanation === undefined) return yield* stranger(address)
  yield* write(json ? `${body.trimEnd()}\n` : liveExplanationText(explanation))
})

const unanswered = (address: string): CliFailure =>
  failed(`No HTTP answer from ${address}. Is it the HTTP address that the cluster printed?`)

/** Another program listens there: the default port is a favourite of many. */
const stranger = (address: string): CliFailure =>
  failed(`${address} did not answer as a balancer does. Is it the HTTP address that the cluster printed?`)

/** What a balancer says of this request. */
const explanationIn = (body: string, id: string): LiveExplanation | undefined => {
  const value = recordIn(body)
  return value?.["id"] === id.toLowerCase() ? (value as unknown as LiveExplanation) : undefined
}

/** The cluster prints the address of its HTTP listener as a URL, which is what people copy. */
const withoutScheme = (address: string): string => address.replace(/^http:\/\/(.*?)\/?$/, "$1")

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
  const error = recordIn(body)?.["error"]
  const message = isRecord(error) ? error["message"] : undefined
  return typeof message === "string" && message !== ""
    ? `${message[0]!.toUpperCase()}${message.slice(1)}.`
    : undefined
}
