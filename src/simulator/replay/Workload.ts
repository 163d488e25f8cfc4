import { TENANTS_MAX } from "../../domain/RequestView.ts"
import { limitOf, type Trace } from "../../domain/Trace.ts"
import { BLOCK_TOKENS, traceChain } from "../../domain/traceChain.ts"
import { chainKeys } from "../../engines/simulated/chainKeys.ts"
import { hash64, type Hash64 } from "../../structures/hash.ts"
import { Names } from "../../structures/Names.ts"
import { saltChain } from "../../structures/PrefixChain.ts"
import type { Loop } from "./Loop.ts"

/** One request to come. */
export interface PlannedRequest {
  readonly arrivalMs: number
  readonly promptTokens: number
  /** What the answer is going to have; no policy is told. */
  readonly outputTokens: number
  readonly maxTokens: number
  readonly tenant: number
  readonly sessionHigh: number
  readonly sessionLow: number
  /** From the end of the one before in its session until it comes, where clients wait and that was recorded. */
  readonly thinkMs?: number | undefined
  /** Left out, its number in the workload; never 0. */
  readonly id?: Hash64
  /** Keys of its prefix blocks, as the engines' caches know them. */
  readonly keys: Float64Array
}

/** Requests in order of arrival, ready for replay. */
export interface Workload {
  readonly name: string
  /** Tokens of one prefix block. */
  readonly blockTokens: number
  readonly tenants: ReadonlyArray<string>
  readonly requests: ReadonlyArray<PlannedRequest>
  /** By number: as what its client knew it, 0 where nobody knows; left out where that is so of all. It is a name for people, and decides nothing. */
  readonly ids?: BigUint64Array
  /** Where clients wait for their answers; without it requests come when they come. */
  readonly loop?: Loop
}

/**
 * Traces laid over each other as a workload. Requests are as a live replay sends them: the same prefix chains, salted by tenant, so that
 * tenants share nothing; and as limit of the answer the next power of two. Tenants and sessions of different traces are different ones.
 * Tenants beyond 16,384 count as the first, which is that of requests without one.
 */
export const workloadOf = (
  traces: ReadonlyArray<Trace>,
  saltOf: (tenant: string) => Hash64 = hash64
): Workload => {
  const tenants = new Names(TENANTS_MAX)
  tenants.add("default")
  const names = namesOf(traces)
  const requests = traces.flatMap(({ header, requests }, at) => {
    const name = names[at]!
    const qualified = (label: string): string => (traces.length > 1 ? `${name}/${label}` : label)
    return requests.map((request): PlannedRequest => {
      const tenant = qualified(request.tenant ?? "default")
      const session = request.session === undefined ? none : hash64(qualified(request.session))
      const chain = traceChain(request, header.blockSize)
      const salt = saltOf(tenant)
      saltChain(chain, 0, chain.length / 8, salt.high, salt.low)
      return {
        arrivalMs: request.arrivalMs,
        promptTokens: request.promptTokens,
        outputTokens: request.outputTokens,
        maxTokens: limitOf(request),
        tenant: Math.max(0, tenants.add(tenant)),
        sessionHigh: session.high,
        sessionLow: session.low,
        thinkMs: request.thinkMs,
        keys: chainKeys(chain)
      }
    })
  })
  const order = traces.length > 1 ? inOrderOf(requests) : undefined
  const ids = idsOf(traces)
  return {
    name: traces.map(({ header }) => header.name).join(" + "),
    blockTokens: BLOCK_TOKENS,
    tenants: tenants.all(),
    requests: order === undefined ? requests : Array.from(order, (place) => requests[place]!),
    ...(ids && { ids: order === undefined ? ids : ids.map((_, number) => ids[order[number]!]!) })
  }
}

/** A name for each trace that no other has, and without the slash that ends it before a label. */
const namesOf = (traces: ReadonlyArray<Trace>): ReadonlyArray<string> => {
  const names = new Set<string>()
  for (const { header } of traces) {
    const given = header.name.replaceAll("/", "_")
    let name = given
    for (let i = 2; names.has(name); i++) name = `${given}#${i}`
    names.add(name)
  }
  return [...names]
}

/** The places of requests, earliest first; of several at a time in the order of their places. */
const inOrderOf = (requests: ReadonlyArray<PlannedRequest>): Uint32Array =>
  Uint32Array.from(requests, (_, place) => place).toSorted(
    (a, b) => requests[a]!.arrivalMs - requests[b]!.arrivalMs || a - b
  )

/** The ids of all requests, trace by trace; undefined where no trace has any. */
const idsOf = (traces: ReadonlyArray<Trace>): BigUint64Array | undefined => {
  if (traces.every(({ ids }) => ids === undefined)) return undefined
  const all = new BigUint64Array(traces.reduce((sum, { requests }) => sum + requests.length, 0))
  let at = 0
  for (const { ids, requests } of traces) {
    if (ids !== undefined) all.set(ids, at)
    at += requests.length
  }
  return all
}

/** The same requests, `speed` times closer together: clients think as much faster. */
export const faster = (workload: Workload, speed: number): Workload =>
  speed === 1
    ? workload
    : {
        ...workload,
        requests: workload.requests.map((request) => ({
          ...request,
          arrivalMs: request.arrivalMs / speed,
          thinkMs: request.thinkMs && request.thinkMs / speed
        })),
        ...(workload.loop && {
          loop: { ...workload.loop, thinkMs: workload.loop.thinkMs.map((ms) => ms / speed) }
        })
      }

const none = { high: 0, low: 0 }
