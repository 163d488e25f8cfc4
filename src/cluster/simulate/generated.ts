import { didYouMean } from "../../domain/config/Option.ts"
import { TENANTS_MAX } from "../../domain/RequestView.ts"
import { BLOCK_TOKENS } from "../../domain/traceChain.ts"
import { TOKENS_MAX, type TrafficOptions } from "../../simulator/replay/generate.ts"

interface Setting {
  /** What it is where nothing is said; NaN where something must be. */
  readonly fallback: number
  readonly minimum: number
  readonly maximum?: number
  /** Whether it counts something. */
  readonly isWhole?: boolean
  readonly summary: string
}

/** What may be said of traffic to make up. */
const settings = {
  rate: { fallback: Number.NaN, minimum: 0.001, maximum: 1_000_000, summary: "requests per second" },
  requests: { fallback: 5000, minimum: 1, maximum: 10_000_000, isWhole: true, summary: "how many" },
  dispersion: { fallback: 1, minimum: 1, summary: "1 is Poisson, more comes in bursts" },
  prompt: { fallback: 1000, minimum: 1, maximum: TOKENS_MAX, summary: "mean prompt tokens" },
  promptVariation: { fallback: 1, minimum: 0, summary: "their standard deviation over mean" },
  output: { fallback: 200, minimum: 1, maximum: TOKENS_MAX, summary: "mean output tokens" },
  outputVariation: { fallback: 1, minimum: 0, summary: "their standard deviation over mean" },
  tenants: { fallback: 1, minimum: 1, maximum: TENANTS_MAX, isWhole: true, summary: "how many" },
  skew: { fallback: 1, minimum: 0, summary: "tenant i sends in proportion to 1 / i^skew" },
  shared: { fallback: 0, minimum: 0, maximum: 1, summary: "share of prompts that begin alike" },
  sharedTexts: { fallback: 10, minimum: 1, maximum: 100_000, isWhole: true, summary: "how many beginnings" },
  sharedTokens: {
    fallback: 2048,
    minimum: BLOCK_TOKENS,
    maximum: TOKENS_MAX,
    isWhole: true,
    summary: "tokens of one"
  },
  sessions: { fallback: 0, minimum: 0, maximum: 1, summary: "share of requests that begin a conversation" },
  turns: { fallback: 6, minimum: 1, maximum: 1_000, isWhole: true, summary: "requests of one" },
  think: { fallback: 10_000, minimum: 0, summary: "ms between two of them" }
} as const satisfies Readonly<Record<string, Setting>>

type Name = keyof typeof settings

const isName = (name: string): name is Name => Object.hasOwn(settings, name)

/** How to say it, for help. */
export const generatedHelp = Object.entries(settings)
  .map(
    ([name, { fallback, summary }]) => `${name} (${summary}${Number.isNaN(fallback) ? "" : `; ${fallback}`})`
  )
  .join(", ")

/** Traffic as a list of settings such as `rate=20,prompt=4000` says, or what is wrong with the list. */
export const generatedTraffic = (list: string): Omit<TrafficOptions, "seed"> | string => {
  const values = new Map<Name, number>()
  for (const setting of list.split(",")) {
    const [name = "", text = ""] = setting.split("=").map((part) => part.trim())
    if (!isName(name)) {
      const hint = didYouMean(name, Object.keys(settings)) ?? `There are ${Object.keys(settings).join(", ")}.`
      return `"${name}" is no setting. ${hint}`
    }
    if (values.has(name)) return `${name} is given twice.`
    const { isWhole = false, minimum, maximum = Number.POSITIVE_INFINITY }: Setting = settings[name]
    const value = text === "" ? Number.NaN : Number(text)
    const isNumber = isWhole ? Number.isInteger(value) : Number.isFinite(value)
    if (!(isNumber && value >= minimum && value <= maximum))
      return `${name} must be a ${isWhole ? "whole " : ""}number of at least ${minimum}${Number.isFinite(maximum) ? ` and at most ${maximum}` : ""}, as in ${name}=${example(name)}.`
    values.set(name, value)
  }
  const of = (name: Name): number => values.get(name) ?? settings[name].fallback
  if (Number.isNaN(of("rate"))) return "rate must be given, as in rate=20."
  return {
    requests: of("requests"),
    requestsPerSecond: of("rate"),
    dispersion: of("dispersion"),
    promptTokens: { mean: of("prompt"), variation: of("promptVariation") },
    outputTokens: { mean: of("output"), variation: of("outputVariation") },
    ...(of("tenants") > 1 ? { tenants: { count: of("tenants"), skew: of("skew") } } : {}),
    ...(of("shared") > 0
      ? {
          sharedPrefix: { share: of("shared"), count: of("sharedTexts"), tokens: of("sharedTokens") }
        }
      : {}),
    ...(of("sessions") > 0
      ? { sessions: { share: of("sessions"), turns: of("turns"), thinkMs: of("think") } }
      : {})
  }
}

const example = (name: Name): number => {
  const { fallback } = settings[name]
  return Number.isNaN(fallback) ? 20 : fallback
}
