import { ConnectFailed } from "../../client/index.ts"
import { isRefusal, WRONG_PORT } from "../../protocol/Connection.ts"
import { CliFailure, failed, misused } from "./CliFailure.ts"
import { messageOf } from "../../structures/messageOf.ts"

/** What the client library threw. What was typed wrong is a mistake of the caller; everything else happened to what was asked. */
export const failureOf = (cause: unknown): CliFailure => {
  if (cause instanceof RangeError) return misused(cause.message)
  if (cause instanceof CliFailure) return cause
  if (!(cause instanceof ConnectFailed)) return failed(messageOf(cause))
  return failed(`${cause.message}.${hintAt(cause.why)}`)
}

const hintAt = (why: string): string => {
  if (why.startsWith("goodbye: unauthorized"))
    return " Set PARALLAX_AUTH_CLIENTS, or for an administrator PARALLAX_AUTH_ADMINS, to a credential that it knows."
  if (isRefusal(why) || why.endsWith(WRONG_PORT)) return ""
  return " Is the cluster running? Start it with: bun run cluster"
}
