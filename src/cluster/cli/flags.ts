import * as Option from "effect/Option"
import { Flag } from "effect/cli"
import { parseDuration } from "../../domain/config/duration.ts"
import { IDENTITY_RULE, identityPattern } from "../../domain/identity.ts"

/** Text that may be left out. */
export const textFlag = (name: string, help: string, metavar = "text"): Flag.Flag<string | undefined> =>
  Flag.String(name).pipe(
    Flag.withDescription(help),
    Flag.withMetavar(metavar),
    Flag.map((value): string | undefined => value),
    Flag.withDefault(undefined)
  )

/** Which configuration file to read. */
export const configFlag = textFlag(
  "config",
  "Configuration file. Default: cluster.config.ts in the working directory, if it is there.",
  "path"
)

export const addressFlag = Flag.String("address").pipe(
  Flag.withDescription("Address of the balancer. Default: 127.0.0.1:7420."),
  Flag.withMetavar("host:port"),
  Flag.withDefault("127.0.0.1:7420")
)

/** What a peer calls itself. */
export const identityFlag = (help: string) =>
  textFlag("name", help).pipe(
    Flag.filter(
      (name) => name === undefined || identityPattern.test(name),
      () => IDENTITY_RULE
    )
  )

export const nameFlag = identityFlag(
  "What this command calls itself: a credential that config key has written lets in one name alone. Default: a random name."
)

/** How an operator reaches a balancer. */
export const adminFlags = {
  address: addressFlag,
  name: nameFlag,
  credential: textFlag(
    "credential",
    "Credential of an administrator. Default: the first of PARALLAX_AUTH_ADMINS, which others cannot see."
  )
}

/** Off unless it is given. */
export const switchFlag = (name: string, help: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(help), Flag.withDefault(false))

export const jsonFlag = (what: string) =>
  switchFlag("json", `Write ${what} as JSON, and nothing else, to standard output.`)

export const insecureFlag = switchFlag(
  "insecure",
  "Listen for other machines although not every role needs a credential."
)

const within =
  (flag: (name: string) => Flag.Flag<number>, minimum: number, rule: string) =>
  (name: string, help: string, fallback: number, maximum = Number.POSITIVE_INFINITY): Flag.Flag<number> =>
    flag(name).pipe(
      Flag.withDescription(help),
      Flag.filter(
        (value) => value >= minimum && value <= maximum,
        () => (Number.isFinite(maximum) ? `${rule} and at most ${maximum}` : rule)
      ),
      Flag.withDefault(fallback)
    )

/** A whole number of at least 1. */
export const countFlag = within(Flag.Int, 1, "at least 1")
/** A number above 0. */
export const factorFlag = within(Flag.Finite, Number.MIN_VALUE, "a number above 0")

/** A time above 0, or of at least `minimumMs`, in ms, as which a number alone counts. */
export const timeFlag = (
  name: string,
  help: string,
  fallbackMs: number,
  minimumMs = Number.MIN_VALUE
): Flag.Flag<number> =>
  Flag.String(name).pipe(
    Flag.withDescription(help),
    Flag.withMetavar("time"),
    Flag.filterMap(
      (text) => {
        const ms = parseDuration(text) ?? Number(text)
        return ms >= minimumMs && ms < Number.POSITIVE_INFINITY ? Option.some(ms) : Option.none()
      },
      () =>
        `a time ${minimumMs < 1 ? "above 0" : `of at least ${minimumMs} ms`}, as in 5s, 200ms or 5000 (ms)`
    ),
    Flag.withDefault(fallbackMs)
  )

/** A slower replay does nothing but wait, and a faster one is a burst. */
export const speedFlag = within(Flag.Finite, 0.001, "at least 0.001")(
  "speed",
  "How many times closer together requests arrive, from 0.001 to 1000. Default: 1.",
  1,
  1000
)

/** The files that `readTrace` reads. */
export const traceFormats =
  "llm-trace/1, Mooncake's JSON lines, the CSV of Azure's or BurstGPT's traces, the result of vllm bench serve, or the log of vllm serve, gzipped or not, or - for standard input"

export const skipBadFlag = switchFlag(
  "skip-bad",
  "Leave out lines that break the format, and say how many they were."
)
