import { mean, sum } from "../../structures/mean.ts"
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
  const promptTokens = sum(counted.map((request) => request.promptTokens))
  return {
    requests: counted.length,
    requestsPerSecond: rateOf(workload),
    repeatedShare: sum(finite(bounds, "knownTokens", from)) / promptTokens,
    ...goodputBounds(ground, workload),
    workersNeeded: workersNeeded(bounds, workload),
    ttftMs: mean(finite(bounds, "ttftMs", from)),
    tpotMs: mean(finite(bounds, "tpotMs", from))
  }
}

/** Some requests have one token only, and some fit nowhere. */
const finite = (bounds: Bounds, name: keyof Bounds, from: number): Float64Array =>
  bounds[name].slice(from).filter(Number.isFinite)

const rateOf = ({ requests }: Workload): number =>
  (1000 * (requests.length - 1)) / (requests.at(-1)!.arrivalMs - requests[0]!.arrivalMs)
