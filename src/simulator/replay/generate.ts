import type { Trace, TraceRequest } from "../../domain/Trace.ts"
import { BLOCK_TOKENS } from "../../domain/traceChain.ts"
import { makeRng, type Rng } from "../../structures/Rng.ts"
import { EventCalendar } from "./EventCalendar.ts"

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
  /** Prompts that begin with one of a few texts, in equal parts: alike as far as whole blocks go. */
  readonly sharedPrefix?: { readonly count: number; readonly tokens: number; readonly share: number }
  /** Requests that are turns of a conversation: a turn begins with all that was said before, and comes some time after the one before. */
  readonly sessions?: { readonly share: number; readonly turns: number; readonly thinkMs: number }
}

export interface Spread {
  readonly mean: number
  /** Standard deviation over mean. */
  readonly variation: number
}

/** Longer prompts and answers are cut. */
export const TOKENS_MAX = 1_000_000
const TURN = 0

/** A turn comes between a half and one and a half think times after the one before. */
const THINK_LEAST = 0.5
const THINK_MOST = 1.5

/**
 * Made-up traffic as a trace. Gaps between arrivals are gamma distributed with the variance that the dispersion asks for; a renewal process
 * with gaps of squared variation D has index of dispersion D. As many conversations are under way at the start as later. Same options, same
 * trace.
 */
export const generateTraffic = (options: TrafficOptions): Trace => {
  const { requests: count, requestsPerSecond, dispersion = 1, promptTokens, outputTokens, seed } = options
  const rng = makeRng(seed)
  const [gaps, lengths, picks] = [rng.split(1), rng.split(2), rng.split(3)]
  const requests: Array<TraceRequest> = []
  /** Turns of conversations, and when they come. */
  const turns: Array<TraceRequest> = []
  const calendar = new EventCalendar()
  let blocks = 0
  let conversations = 0
  /** The blocks of a prompt of so many tokens that begins with `known` ones. */
  const blocksOf = (tokens: number, known: ReadonlyArray<number> = []): ReadonlyArray<number> => {
    const length = Math.floor(tokens / BLOCK_TOKENS) - known.length
    return [...known, ...Array.from({ length }, () => ++blocks)]
  }
  const shared = Array.from({ length: options.sharedPrefix?.count ?? 0 }, () =>
    blocksOf(options.sharedPrefix!.tokens)
  )

  const draw = (spread: Spread): number =>
    Math.min(TOKENS_MAX, Math.max(1, Math.round(logNormal(lengths, spread))))
  const tenantOf = (): string | undefined =>
    options.tenants === undefined ? undefined : `tenant-${zipf(picks, options.tenants)}`

  const begin = (arrivalMs: number): TraceRequest => {
    const { sessions, sharedPrefix } = options
    const own = draw(promptTokens)
    const isShared = sharedPrefix !== undefined && picks.next() < sharedPrefix.share
    const tokens = isShared ? sharedPrefix.tokens + own : own
    const request = {
      arrivalMs,
      promptTokens: tokens,
      outputTokens: draw(outputTokens),
      blocks: blocksOf(tokens, isShared ? shared[picks.int(shared.length)] : []),
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
      const tokens = last.promptTokens + last.outputTokens + said
      last = {
        arrivalMs: arrivalMs + sessions.thinkMs * (THINK_LEAST + (THINK_MOST - THINK_LEAST) * picks.next()),
        promptTokens: tokens,
        outputTokens: draw(outputTokens),
        blocks: blocksOf(tokens, blocks),
        session,
        tenant,
        model: undefined
      }
      calendar.add(last.arrivalMs, TURN, turns.push(last) - 1)
    }
    return { ...request, session }
  }

  // A conversation brings several requests, so fewer of them begin; and those under way at the start have begun before it: if they last
  // very long, as many at most as there are requests.
  const { share = 0, thinkMs = 0, turns: perSession = 1 } = options.sessions ?? {}
  const beginsPerMs = requestsPerSecond / 1000 / (1 + share * (perSession - 1))
  const longestMs = share > 0 ? (perSession - 1) * THINK_MOST * thinkMs : 0
  const startMs = Math.min(longestMs, count / beginsPerMs)
  const take = (request: TraceRequest): void => {
    const arrivalMs = request.arrivalMs - startMs
    if (arrivalMs >= 0) requests.push({ ...request, arrivalMs })
  }
  let nextMs = gamma(gaps, dispersion) / beginsPerMs
  while (requests.length < count) {
    if (calendar.nextMs <= nextMs) {
      calendar.take()
      take(turns[calendar.a]!)
    } else {
      take(begin(nextMs))
      nextMs += gamma(gaps, dispersion) / beginsPerMs
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
