import * as Schema from "effect/Schema"

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

/** What was thrown, in words. */
export const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** A port somebody else holds; `flag` is the one that chooses another. */
export const portTaken = (host: string, port: number, flag: "--port" | "--http-port"): CliFailure =>
  failed(
    `${host}:${port} is in use by another program. Choose another port with ${flag}, or ${flag} 0 for a free one.`
  )
