import type { Workload } from "../replay/Workload.ts"
import { type Bounds, workersNeeded } from "./bounds.ts"
import { goodputBounds, type Ground } from "./ground.ts"

/** What bounds one workload. */
export interface Limits {
  /** Requests that count, how many of them come per second, and the share of their prompt tokens that came before. */
  readonly requests: number
  readonly requestsPerSecond: number
  readonly repeatedShare: number
  /** Of the goodput. */
  readonly alone: number
  readonly capacity: number
  readonly workersNeeded: number
  readonly ttftMs: number
  readonly tpotMs: number
}

export const limitsOf = (ground: Ground, workload: Workload): Limits => {
  const { bounds, from } = ground
  const counted = workload.requests.slice(from)
  const promptTokens = counted.reduce((sum, request) => sum + request.promptTokens, 0)
  return {
    requests: counted.length,
    requestsPerSecond: rateOf(workload),
    repeatedShare: sumOf(finite(bounds, "knownTokens", from)) / promptTokens,
    ...goodputBounds(ground, workload),
    workersNeeded: workersNeeded(bounds, workload),
    ttftMs: meanOf(finite(bounds, "ttftMs", from)),
    tpotMs: meanOf(finite(bounds, "tpotMs", from))
  }
}

/** Some requests have one token only, and some fit nowhere. */
const finite = (bounds: Bounds, name: keyof Bounds, from: number): Float64Array =>
  bounds[name].slice(from).filter(Number.isFinite)

const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0)
const meanOf = (values: Float64Array): number => sumOf(values) / values.length

const rateOf = ({ requests }: Workload): number =>
  (1000 * (requests.length - 1)) / (requests.at(-1)!.arrivalMs - requests[0]!.arrivalMs)
