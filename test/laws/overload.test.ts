import { describe } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { QueueView } from "../../src/policies/Admission.ts"
import { findAdmission } from "../../src/policies/registry.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { type AdmissionMaker, overloadLaws } from "./overloadLaws.ts"

const named =
  (name: string): AdmissionMaker =>
  (rng) =>
    findAdmission(name).make({}, rng)

/** slo-feasible with another view of the pool, or of the queue. */
const blinded =
  (poolOf: (pool: PoolView) => PoolView, queueOf: (queue: QueueView) => QueueView): AdmissionMaker =>
  (rng) => {
    const inner = named("slo-feasible")(rng)
    return {
      ...inner,
      decide: (request, pool, queue, nowMs) => inner.decide(request, poolOf(pool), queueOf(queue), nowMs)
    }
  }

const same = <View>(view: View): View => view

const defects: ReadonlyArray<Planted<AdmissionMaker>> = [
  ["lets everyone in", "overload-goodput", named("always")],
  ["bounds the queue alone, at 4096 requests and 30 s", "overload-goodput", named("queue-bounds")],
  ["bounds requests in flight, not their tokens", "overload-late", named("gradient-limit")],
  [
    "refuses before it must",
    "overload-late",
    () => ({
      decide: (_, { workers }) =>
        workers.inFlight.some((count) => count > 8)
          ? { reason: Reason.sloInfeasible, retryAfterMs: 1000 }
          : null
    })
  ],
  [
    "takes predictions for the truth",
    "overload-calibrated",
    blinded((pool) => ({ ...pool, forecast: { ...pool.forecast, ttftRatio: 1 } }), same)
  ],
  [
    "takes an expected wait for the longest",
    "overload-retries",
    blinded(same, ({ queuedCount, queuedPromptTokens, expectedWaitMs, ceiling }) => ({
      queuedCount,
      queuedPromptTokens,
      expectedWaitMs: expectedWaitMs / 2,
      ceiling
    }))
  ]
]

describe("slo-feasible under overload", () => keepsAll(overloadLaws, named("slo-feasible")))
describe("planted defects", () => findsAll(overloadLaws, defects))
