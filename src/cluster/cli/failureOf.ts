import { ConnectFailed } from "../../client/index.ts"
import { isRefusal, WRONG_PORT } from "../../protocol/Connection.ts"
import { CliFailure, failed, misused } from "./CliFailure.ts"
import { messageOf } from "../../structures/messageOf.ts"

/** What the client library threw. What was typed wrong is a mistake of the caller; everything else happened to what was asked. */
export const failureOf = (cause: unknown): CliFailure => {
  if (cause instanceof RangeError) return misused(cause.message)
  if (cause instanceof CliFailure) return cause
  if (!(cause instanceof ConnectFailed)) return failed(messageOf(cause))
  const isAnswered = isRefusal(cause.why) || cause.why.endsWith(WRONG_PORT)
  return failed(
    `${cause.message}.${isAnswered ? "" : " Is the cluster running? Start it with: bun run cluster"}`
  )
}
