import { assert } from "../structures/assert.ts"
import type { AdmissionEntry } from "./Admission.ts"
import type { BatchingEntry } from "./Batching.ts"
import type { OrderingEntry } from "./Ordering.ts"
import type { PlacementEntry } from "./Placement.ts"
import type { PolicyEntry, PolicyFacts } from "./Policy.ts"
import type { RescueEntry } from "./Rescue.ts"
import type { ScalingEntry } from "./Scaling.ts"
import { adaptive } from "./batching/adaptive.ts"
import { none } from "./batching/none.ts"
import { sameTurn } from "./batching/sameTurn.ts"
import { window } from "./batching/window.ts"
import { hedge } from "./rescue/hedge.ts"
import { migrate } from "./rescue/migrate.ts"
import { preempt } from "./rescue/preempt.ts"
import { requeueStragglers } from "./rescue/requeueStragglers.ts"
import { steal } from "./rescue/steal.ts"
import { aibrixPrefix } from "./rivals/aibrixPrefix.ts"
import { dynamoKv } from "./rivals/dynamoKv.ts"
import { llmDAffinityToken } from "./rivals/llmDAffinityToken.ts"
import { productionStackLoadAware } from "./rivals/productionStackLoadAware.ts"
import { rayPrefix } from "./rivals/rayPrefix.ts"
import { sglangCacheAware } from "./rivals/sglangCacheAware.ts"
import { smgLeastLoad } from "./rivals/smgLeastLoad.ts"
import { erlangC } from "./scaling/erlangC.ts"
import { fixed } from "./scaling/fixed.ts"
import { holtWinters } from "./scaling/holtWinters.ts"
import { latencyDriven } from "./scaling/latencyDriven.ts"
import { queueDriven } from "./scaling/queueDriven.ts"
import { targetTracking } from "./scaling/targetTracking.ts"
import { aimdLimit } from "./admission/aimdLimit.ts"
import { always } from "./admission/always.ts"
import { boundedWait } from "./admission/boundedWait.ts"
import { gradientLimit } from "./admission/gradientLimit.ts"
import { kvHeadroom } from "./admission/kvHeadroom.ts"
import { prefillBudget } from "./admission/prefillBudget.ts"
import { queueBounds } from "./admission/queueBounds.ts"
import { sloFeasible } from "./admission/sloFeasible.ts"
import { tokenBucket } from "./admission/tokenBucket.ts"
import { arrival } from "./ordering/arrival.ts"
import { deficitRoundRobin } from "./ordering/deficitRoundRobin.ts"
import { earliestDeadline } from "./ordering/earliestDeadline.ts"
import { prefixFair } from "./ordering/prefixFair.ts"
import { priority } from "./ordering/priority.ts"
import { shortestJob } from "./ordering/shortestJob.ts"
import { startTimeFair } from "./ordering/startTimeFair.ts"
import { virtualTokenCounter } from "./ordering/virtualTokenCounter.ts"
import { bucketed } from "./placement/bucketed.ts"
import { composite } from "./placement/composite.ts"
import { consistentHash } from "./placement/consistentHash.ts"
import { disaggregated } from "./placement/disaggregated.ts"
import { joinIdleQueue } from "./placement/joinIdleQueue.ts"
import { leastConnections } from "./placement/leastConnections.ts"
import { leastLatency } from "./placement/leastLatency.ts"
import { leastLoaded } from "./placement/leastLoaded.ts"
import { leastWork } from "./placement/leastWork.ts"
import { powerOfTwo } from "./placement/powerOfTwo.ts"
import { predictedCompletion } from "./placement/predictedCompletion.ts"
import { prefixLocality } from "./placement/prefixLocality.ts"
import { prefixScan } from "./placement/prefixScan.ts"
import { prequal } from "./placement/prequal.ts"
import { random } from "./placement/random.ts"
import { rendezvous } from "./placement/rendezvous.ts"
import { roundRobin } from "./placement/roundRobin.ts"
import { sessionAffinity } from "./placement/sessionAffinity.ts"
import { stickyRehoming } from "./placement/stickyRehoming.ts"
import { weightedRandom } from "./placement/weightedRandom.ts"
import { weightedRoundRobin } from "./placement/weightedRoundRobin.ts"

/**
 * Every policy, in the order in which the documentation explains them. A line here makes a policy configurable, law-tested,
 * benchmarked and documented.
 */
export const admissions: ReadonlyArray<AdmissionEntry> = [
  always,
  queueBounds,
  boundedWait,
  sloFeasible,
  prefillBudget,
  kvHeadroom,
  tokenBucket,
  gradientLimit,
  aimdLimit
]

export const orderings: ReadonlyArray<OrderingEntry> = [
  arrival,
  priority,
  shortestJob,
  earliestDeadline,
  deficitRoundRobin,
  startTimeFair,
  virtualTokenCounter,
  prefixFair
]

export const placements: ReadonlyArray<PlacementEntry> = [
  random,
  weightedRandom,
  roundRobin,
  weightedRoundRobin,
  leastConnections,
  leastLoaded,
  powerOfTwo,
  joinIdleQueue,
  leastLatency,
  prequal,
  leastWork,
  bucketed,
  composite,
  sessionAffinity,
  stickyRehoming,
  rendezvous,
  consistentHash,
  prefixLocality,
  predictedCompletion,
  prefixScan,
  disaggregated
]

/** Other products' placements, re-implemented from their public descriptions, to compare with. They can be configured like any other. */
export const rivals: ReadonlyArray<PlacementEntry> = [
  sglangCacheAware,
  smgLeastLoad,
  dynamoKv,
  llmDAffinityToken,
  aibrixPrefix,
  rayPrefix,
  productionStackLoadAware
]

export const batchings: ReadonlyArray<BatchingEntry> = [none, sameTurn, window, adaptive]

export const rescues: ReadonlyArray<RescueEntry> = [requeueStragglers, steal, hedge, preempt, migrate]

export const scalings: ReadonlyArray<ScalingEntry> = [
  fixed,
  targetTracking,
  queueDriven,
  latencyDriven,
  erlangC,
  holtWinters
]

/** The entry of that name; that there is one was checked where the name came in. */
const finder =
  <Entry extends PolicyFacts>(entries: ReadonlyArray<Entry>) =>
  (name: string): Entry => {
    const entry = entries.find((each) => each.name === name)
    assert(entry !== undefined, `there is a policy ${name}`)
    return entry
  }

export const findAdmission = finder(admissions)
export const findOrdering = finder(orderings)
export const findBatching = finder(batchings)
export const findPlacement = finder([...placements, ...rivals])
export const findRescue = finder(rescues)
export const findScaling = finder(scalings)

/** The decision points, in the order in which a request meets them. */
export const decisionPoints: ReadonlyArray<{
  readonly name: string
  readonly question: string
  readonly entries: ReadonlyArray<PolicyEntry<unknown>>
}> = [
  { name: "admission", question: "Is a request let in?", entries: admissions },
  { name: "ordering", question: "Which queued request is next?", entries: orderings },
  { name: "batching", question: "Is it placed at once, or together with others?", entries: batchings },
  { name: "placement", question: "Which worker serves it?", entries: placements },
  { name: "rivals", question: "Where would another product have placed it?", entries: rivals },
  { name: "rescue", question: "What is done about what was placed?", entries: rescues },
  { name: "scaling", question: "How many workers are there?", entries: scalings }
]
