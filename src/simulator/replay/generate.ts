import type { Trace, TraceRequest } from "../../domain/Trace.ts"
import { BLOCK_TOKENS } from "../../domain/traceChain.ts"
import { makeRng, type Rng } from "../../structures/Rng.ts"

/** Traffic to make up. Every share is from 0 to 1. */
export interface TrafficOptions {
  readonly seed: number
  readonly requests: number
  readonly requestsPerSecond: number
  /** Variance of the counts in a window over their mean, for long windows: 1 is Poisson, more comes in bursts. At least 1. */
  readonly dispersion?: number
  /** Mean and coefficient of variation of lengths in tokens, log-normal. */
  readonly promptTokens: Spread
  readonly outputTokens: Spread
  /** Tenants, and how unequal: tenant i sends in proportion to 1 / i^skew. */
  readonly tenants?: { readonly count: number; readonly skew: number }
  /** Prompts that begin with one of a few texts, in equal parts. */
  readonly sharedPrefix?: { readonly count: number; readonly tokens: number; readonly share: number }
  /** Requests that are turns of a conversation: a turn begins with all that was said before, some time after the last answer was due. */
  readonly sessions?: { readonly share: number; readonly turns: number; readonly thinkMs: number }
}

export interface Spread {
  readonly mean: number
  /** Standard deviation over mean. */
  readonly variation: number
}

const TOKENS_MAX = 1_000_000

/**
 * Made-up traffic as a trace. Gaps between arrivals are gamma distributed with the variance that the dispersion asks for; a renewal process
 * with gaps of squared variation D has index of dispersion D. Same options, same trace.
 */
export const generateTraffic = (options: TrafficOptions): Trace => {
  const { requests: count, requestsPerSecond, dispersion = 1, promptTokens, outputTokens, seed } = options
  const rng = makeRng(seed)
  const [gaps, lengths, picks] = [rng.split(1), rng.split(2), rng.split(3)]
  const requests: Array<TraceRequest> = []
  /** Turns to come, the next one last. */
  const turns: Array<TraceRequest> = []
  let nowMs = 0
  let blocks = 0
  let conversations = 0
  const fresh = (tokens: number): ReadonlyArray<number> =>
    Array.from({ length: Math.floor(tokens / BLOCK_TOKENS) }, () => ++blocks)
  const shared = Array.from({ length: options.sharedPrefix?.count ?? 0 }, () =>
    fresh(options.sharedPrefix!.tokens)
  )

  const draw = (spread: Spread): number =>
    Math.min(TOKENS_MAX, Math.max(1, Math.round(logNormal(lengths, spread))))
  const tenantOf = (): string | undefined =>
    options.tenants === undefined ? undefined : `tenant-${zipf(picks, options.tenants)}`

  const begin = (arrivalMs: number): TraceRequest => {
    const { sessions, sharedPrefix } = options
    const own = draw(promptTokens)
    const prefix =
      sharedPrefix !== undefined && picks.next() < sharedPrefix.share ? shared[picks.int(shared.length)]! : []
    const request = {
      arrivalMs,
      promptTokens: prefix.length * BLOCK_TOKENS + own,
      outputTokens: draw(outputTokens),
      blocks: [...prefix, ...fresh(own)],
      session: undefined,
      tenant: tenantOf(),
      model: undefined
    }
    if (sessions === undefined || picks.next() >= sessions.share) return request
    const session = `session-${conversations++}`
    let last: TraceRequest = request
    for (let turn = 1; turn < sessions.turns; turn++) {
      const said = draw(promptTokens)
      const { arrivalMs, blocks, tenant } = last
      last = {
        arrivalMs: arrivalMs + sessions.thinkMs * (0.5 + picks.next()),
        promptTokens: last.promptTokens + last.outputTokens + said,
        outputTokens: draw(outputTokens),
        blocks: [...blocks, ...fresh(last.outputTokens + said)],
        session,
        tenant,
        model: undefined
      }
      turns.push(last)
    }
    turns.sort((a, b) => b.arrivalMs - a.arrivalMs)
    return { ...request, session }
  }

  // A conversation brings several requests, so fewer of them begin.
  const { share = 0, turns: perSession = 1 } = options.sessions ?? {}
  const beginsPerMs = requestsPerSecond / 1000 / (1 + share * (perSession - 1))
  let nextMs = gamma(gaps, dispersion) / beginsPerMs
  while (requests.length < count) {
    const due = turns.at(-1)
    if (due !== undefined && due.arrivalMs <= nextMs) {
      nowMs = due.arrivalMs
      requests.push(turns.pop()!)
    } else {
      nowMs = nextMs
      requests.push(begin(nowMs))
      nextMs = nowMs + gamma(gaps, dispersion) / beginsPerMs
    }
  }
  return {
    header: { name: `generated-${seed}`, kind: "generated", blockSize: BLOCK_TOKENS, partialTail: false },
    requests
  }
}

const normal = (rng: Rng): number =>
  Math.sqrt(-2 * Math.log(1 - rng.next())) * Math.cos(2 * Math.PI * rng.next())

const logNormal = (rng: Rng, { mean, variation }: Spread): number => {
  const variance = Math.log(1 + variation * variation)
  return Math.exp(Math.log(mean) - variance / 2 + Math.sqrt(variance) * normal(rng))
}

/** Gamma distributed with mean 1 and variance `dispersion`. Source: Marsaglia and Tsang, ACM TOMS 26(3), 2000; below shape 1 boosted. */
const gamma = (rng: Rng, dispersion: number): number => {
  const shape = 1 / dispersion
  const d = (shape < 1 ? shape + 1 : shape) - 1 / 3
  const c = 1 / Math.sqrt(9 * d)
  while (true) {
    const x = normal(rng)
    const v = (1 + c * x) ** 3
    if (v <= 0) continue
    if (Math.log(1 - rng.next()) < x * x * 0.5 + d - d * v + d * Math.log(v)) {
      const boost = shape < 1 ? (1 - rng.next()) ** (1 / shape) : 1
      return (d * v * boost) / shape
    }
  }
}

const zipf = (rng: Rng, { count, skew }: { readonly count: number; readonly skew: number }): number => {
  let total = 0
  for (let i = 1; i <= count; i++) total += i ** -skew
  let left = rng.next() * total
  for (let i = 1; i <= count; i++) {
    left -= i ** -skew
    if (left <= 0) return i
  }
  return count
}
