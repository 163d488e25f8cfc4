import { MAX_BATCHED_TOKENS, MAX_NUM_SEQS } from "../../engines/simulated/ContinuousBatch.ts"
import { type StepCost, stepMs } from "../../engines/simulated/CostModel.ts"
import type { Targets } from "../../policies/pipelines.ts"
import { sum } from "../../structures/mean.ts"
import { NETWORK_MS, type ReplayOptions } from "../replay/Replay.ts"
import type { ReplayWorkerOptions } from "../replay/ReplayWorker.ts"
import type { PlannedRequest, Workload } from "../replay/Workload.ts"

/** Whether a request that was done met the targets; an answer of one token, whose TPOT is NaN, has the first of them to meet. */
export const areMet = (targets: Targets, ttftMs: number, tpotMs: number): boolean =>
  ttftMs <= targets.ttftMs && !(tpotMs > targets.tpotMs)

/** What no policy can beat, by the number of the request. */
export interface Bounds {
  /** Of each request alone on the fastest worker that is idle, with all blocks of requests that came before it cached. */
  readonly ttftMs: Float64Array
  /** NaN for an answer of one token. */
  readonly tpotMs: Float64Array
  /** Prompt tokens that came before, those an engine computes anyway left out. */
  readonly knownTokens: Float64Array
  /** How long one worker is busy with it at least, in the company that shares its steps best; and up to its first token. */
  readonly workMs: Float64Array
  readonly prefillMs: Float64Array
}

type Fleet = Pick<ReplayOptions, "workload" | "workers" | "networkMs">

/**
 * The lower bounds of every request. A block that nobody before it had must be computed after the request has come, whoever asks for it
 * next: so they hold whatever the order and the placement. O(requests · (workers + chunks) + blocks).
 */
export const boundsOf = ({ networkMs = NETWORK_MS, workers, workload }: Fleet): Bounds => {
  const count = workload.requests.length
  const knownTokens = knownTokensOf(workload)
  const ttftMs = new Float64Array(count).fill(Number.POSITIVE_INFINITY)
  const tpotMs = new Float64Array(count).fill(Number.POSITIVE_INFINITY)
  const workMs = new Float64Array(count).fill(Number.POSITIVE_INFINITY)
  const prefillMs = new Float64Array(count).fill(Number.POSITIVE_INFINITY)
  for (const engine of kindsOf(workers)) {
    const stepsOf = sharedSteps(engine, workload, knownTokens)
    for (const [number, request] of workload.requests.entries()) {
      if (!fits(engine, request)) continue
      const known = knownTokens[number]!
      ttftMs[number] = Math.min(ttftMs[number]!, aloneTtftMs(engine, request, known) + 2 * networkMs)
      tpotMs[number] = Math.min(tpotMs[number]!, aloneTpotMs(engine, request))
      prefillMs[number] = Math.min(prefillMs[number]!, leastPrefillMs(engine, request, known))
      workMs[number] = Math.min(workMs[number]!, leastWorkMs(engine, request, known, stepsOf(request, known)))
    }
  }
  return { ttftMs, tpotMs, knownTokens, workMs, prefillMs }
}

/** The share of the requests from number `from` on that some policy could serve within the targets, were it not for all the others. */
export const aloneShare = ({ ttftMs, tpotMs }: Bounds, targets: Targets, from: number): number => {
  let met = 0
  for (let number = from; number < ttftMs.length; number++) {
    const ms = ttftMs[number]!
    if (ms < Number.POSITIVE_INFINITY && areMet(targets, ms, tpotMs[number]!)) met++
  }
  return met / Math.max(1, ttftMs.length - from)
}

/**
 * The share of the requests from number `from` on that the workers have time for: those with the least work, as long as all workers
 * together are not busy for longer than from the first arrival to when the last must be over; and of prompts alone, to when the last must
 * have its first token. 1 without a target, and where clients wait: then the last one comes when there is time for it.
 */
export const capacityShare = (
  { prefillMs, workMs }: Bounds,
  { workers, workload }: Fleet,
  { tpotMs, ttftMs }: Targets,
  from: number
): number => {
  const requests = workload.requests.slice(from)
  if (requests.length === 0) return 0
  if (workload.loop !== undefined) return 1
  const startMs = requests[0]!.arrivalMs
  let firstsMs = startMs
  let endMs = startMs
  for (const { arrivalMs, outputTokens } of requests) {
    const decodeMs = outputTokens === 1 ? 0 : tpotMs * (outputTokens - 1)
    firstsMs = Math.max(firstsMs, arrivalMs + ttftMs)
    endMs = Math.max(endMs, arrivalMs + ttftMs + decodeMs)
  }
  const fitting = (ms: Float64Array, untilMs: number): number => {
    let leftMs = workers.length * (untilMs - startMs)
    const after = ms
      .slice(from)
      .toSorted()
      .findIndex((each) => (leftMs -= each) < 0)
    return after === -1 ? requests.length : after
  }
  return Math.min(fitting(prefillMs, firstsMs), fitting(workMs, endMs)) / requests.length
}

/**
 * Workers that are busy on average, had each request the work of its bound: with fewer, queues grow for ever. NaN of traffic that takes no
 * time: nothing grows.
 */
export const workersNeeded = ({ workMs }: Bounds, { requests }: Workload): number => {
  const spanMs = (requests.at(-1)?.arrivalMs ?? 0) - (requests[0]?.arrivalMs ?? 0)
  return spanMs > 0 ? sum(workMs.filter(Number.isFinite)) / spanMs : Number.NaN
}

/**
 * Of each prompt the tokens of the blocks that came before, or where clients wait those that any other has, which may come before; at
 * least one token is computed in any case.
 */
const knownTokensOf = ({ blockTokens, loop, requests }: Workload): Float64Array => {
  const isOrdered = loop === undefined
  const seen = isOrdered ? new Set<number>() : repeatedKeys(requests)
  return Float64Array.from(requests, ({ keys, promptTokens }) => {
    // A key stands for all before it: what is known is known from the start.
    let known = 0
    let unknown = keys.length
    while (known < unknown) {
      const middle = (known + unknown) >>> 1
      if (seen.has(keys[middle]!)) known = middle + 1
      else unknown = middle
    }
    if (isOrdered) for (let i = known; i < keys.length; i++) seen.add(keys[i]!)
    return Math.min(known, Math.floor((promptTokens - 1) / blockTokens)) * blockTokens
  })
}

const repeatedKeys = (requests: ReadonlyArray<PlannedRequest>): Set<number> => {
  const seen = new Set<number>()
  const repeated = new Set<number>()
  for (const { keys } of requests) for (const key of keys) (seen.has(key) ? repeated : seen).add(key)
  return repeated
}

interface Engine {
  readonly cost: StepCost
  readonly slowFactor: number
  readonly kvCapacityTokens: number
  readonly maxNumSeqs: number
  readonly maxBatchedTokens: number
}

const engineOf = (worker: ReplayWorkerOptions): Engine => ({
  cost: worker.preset.cost,
  slowFactor: worker.slowFactor ?? 1,
  kvCapacityTokens: worker.kvCapacityTokens ?? worker.preset.kvCapacityTokens,
  maxNumSeqs: worker.maxNumSeqs ?? MAX_NUM_SEQS,
  maxBatchedTokens: worker.maxBatchedTokens ?? MAX_BATCHED_TOKENS
})

/** The engines of a fleet, each kind once. */
const kindsOf = (workers: ReadonlyArray<ReplayWorkerOptions>): Iterable<Engine> =>
  new Map(workers.map(engineOf).map((engine) => [JSON.stringify(engine), engine])).values()

const fits = ({ kvCapacityTokens }: Engine, { outputTokens, promptTokens }: PlannedRequest): boolean =>
  promptTokens + outputTokens - 1 <= kvCapacityTokens

const aloneTtftMs = (
  { cost, maxBatchedTokens, slowFactor }: Engine,
  { promptTokens }: PlannedRequest,
  knownTokens: number
): number => {
  let ms = 0
  for (let context = knownTokens; context < promptTokens; context += maxBatchedTokens) {
    const chunk = Math.min(maxBatchedTokens, promptTokens - context)
    ms += stepMs(cost, chunk, chunk * (context + chunk / 2), 0, 0)
  }
  return ms * slowFactor
}

/** The context of the i-th further token is the prompt and the i − 1 further tokens before it. */
const aloneTpotMs = ({ cost, slowFactor }: Engine, { outputTokens, promptTokens }: PlannedRequest): number =>
  outputTokens === 1 ? Number.NaN : stepMs(cost, 0, 0, 1, promptTokens + (outputTokens - 2) / 2) * slowFactor

/**
 * The part of a step's base cost that is a request's, where steps are as full as can be: of sequences that decode, or of tokens; the one
 * that makes for more steps over the whole workload.
 */
const sharedSteps = (
  { maxBatchedTokens, maxNumSeqs }: Engine,
  { requests }: Workload,
  knownTokens: Float64Array
): ((request: PlannedRequest, knownTokens: number) => number) => {
  const bySequences = ({ outputTokens }: PlannedRequest): number => (outputTokens - 1) / maxNumSeqs
  const byTokens = ({ outputTokens, promptTokens }: PlannedRequest, known: number): number =>
    (promptTokens - known + outputTokens - 1) / maxBatchedTokens
  let more = 0
  for (const [number, request] of requests.entries())
    more += bySequences(request) - byTokens(request, knownTokens[number]!)
  return more > 0 ? bySequences : byTokens
}

/** Steps that are full of this prompt and others. */
const leastPrefillMs = (
  { cost, maxBatchedTokens, slowFactor }: Engine,
  { promptTokens }: PlannedRequest,
  knownTokens: number
): number => {
  const uncached = promptTokens - knownTokens
  const oneStepMs = stepMs(cost, uncached, uncached * (knownTokens + uncached / 2), 0, 0)
  return (oneStepMs + (uncached / maxBatchedTokens - 1) * cost.baseMs) * slowFactor
}

const leastWorkMs = (
  { cost, slowFactor }: Engine,
  { outputTokens, promptTokens }: PlannedRequest,
  knownTokens: number,
  steps: number
): number => {
  const decodes = outputTokens - 1
  const uncached = promptTokens - knownTokens
  const attention = uncached * (knownTokens + uncached / 2)
  const contextTokens = decodes * (promptTokens + (decodes - 1) / 2)
  const oneStepMs = stepMs(cost, uncached, attention, decodes, contextTokens)
  return (oneStepMs + (steps - 1) * cost.baseMs) * slowFactor
}
