import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ConnectFailed } from "../../client/index.ts"
import { messageOf } from "../../structures/messageOf.ts"
import { CliFailure, failed, misused } from "./CliFailure.ts"

/** Has the client library do something. */
export const attempt = <A>(run: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, CliFailure> =>
  Effect.tryPromise({ try: run, catch: failureOf })

/** Has it open something, which is closed when the scope ends. */
export const opened = <A extends { readonly close: () => Promise<void> }>(
  open: () => Promise<A>
): Effect.Effect<A, CliFailure, Scope.Scope> =>
  Effect.acquireRelease(attempt(open), (it) => Effect.promise(() => it.close()))

/** What it threw. What was typed wrong is a mistake of the caller; everything else happened to what was asked. */
const failureOf = (cause: unknown): CliFailure => {
  if (cause instanceof RangeError) return misused(cause.message)
  if (cause instanceof CliFailure) return cause
  if (!(cause instanceof ConnectFailed)) return failed(messageOf(cause))
  const hint = hints[cause.code ?? ""] ?? " Is the cluster running? Start it with: bun run cluster"
  return failed(`${cause.message}.${hint}`)
}

/** By how a balancer, or what answers in its place, ended it. */
const hints: Readonly<Record<string, string>> = {
  unauthorized:
    " Set PARALLAX_AUTH_CLIENTS, or for an administrator PARALLAX_AUTH_ADMINS, to a credential that it knows.",
  version: "",
  not_this_protocol: ""
}
