import * as Schema from "effect/Schema"
import { formatAddress } from "../../client/address.ts"
import type { BindFailed } from "../../protocol/bind.ts"

/** Why a command ends without having done its work. The message is for the person who typed it and says what to do. */
export class CliFailure extends Schema.TaggedError<CliFailure>()("CliFailure", {
  message: Schema.String,
  /** 1: it failed. 2: it was asked for wrongly, on the command line or in the configuration. */
  exitCode: Schema.Literals([1, 2])
}) {}

/** The command ran and failed. */
export const failed = (message: string): CliFailure => new CliFailure({ message, exitCode: 1 })
/** The command line or the configuration is wrong. */
export const misused = (message: string): CliFailure => new CliFailure({ message, exitCode: 2 })

/** An address that cannot be bound; `flag` is the one that chooses another port. */
export const unbound = (error: BindFailed, flag: "--port" | "--http-port"): CliFailure =>
  failed(
    error.code === "EADDRINUSE"
      ? `${formatAddress(error)} is in use by another program. Choose another port with ${flag}, or ${flag} 0 for a free one.`
      : `${formatAddress(error)} cannot be listened on (${error.code}). Give listen.host an address of this machine, or choose another port with ${flag}.`
  )
