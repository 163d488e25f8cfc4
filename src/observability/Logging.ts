import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"

export interface LoggingOptions {
  /** The least important lines that are written. */
  readonly level: "debug" | "info" | "warn" | "error" | "none"
  /** `text` is logfmt: `timestamp=… level=INFO fiber=#1 message=… key=value`. */
  readonly format: "text" | "json"
  /** Takes one line with its newline; standard error by default. */
  readonly write?: ((line: string) => void) | undefined
}

/** One line for each log entry, whatever is in it, on standard error: standard output is for data. Replaces all other loggers. */
export const logging = ({ level, format, write = toStderr }: LoggingOptions): Layer.Layer<never> =>
  Layer.merge(
    Logger.layer([
      Logger.map(format === "json" ? Logger.formatJson : Logger.formatLogFmt, (line) =>
        write(`${line.replaceAll(CONTROLS, escaped)}\n`)
      )
    ]),
    Layer.succeed(References.MinimumLogLevel, levels[level])
  )

/** Ends of lines, and what terminals take for commands: some lines quote what peers say. As JSON has them, which has them in strings alone. */
const CONTROLS = /[\p{Cc}\u2028\u2029]/gu
const escaped = (control: string): string => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`

const levels: Readonly<Record<LoggingOptions["level"], LogLevel.LogLevel>> = {
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  none: "None"
}

const toStderr = (line: string): void => {
  process.stderr.write(line)
}
