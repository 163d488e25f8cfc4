import type { AdmissionEntry } from "./Admission.ts"
import type { OrderingEntry } from "./Ordering.ts"
import type { PlacementEntry } from "./Placement.ts"
import { always } from "./admission/always.ts"
import { queueBounds } from "./admission/queueBounds.ts"
import { arrival } from "./ordering/arrival.ts"
import { leastConnections } from "./placement/leastConnections.ts"
import { powerOfTwo } from "./placement/powerOfTwo.ts"
import { random } from "./placement/random.ts"
import { roundRobin } from "./placement/roundRobin.ts"
import { sessionAffinity } from "./placement/sessionAffinity.ts"

/**
 * Every policy, in the order in which the documentation explains them. A line here makes a policy configurable, law-tested,
 * benchmarked and documented.
 */
export const admissions: ReadonlyArray<AdmissionEntry> = [always, queueBounds]

export const orderings: ReadonlyArray<OrderingEntry> = [arrival]

export const placements: ReadonlyArray<PlacementEntry> = [
  random,
  roundRobin,
  leastConnections,
  powerOfTwo,
  sessionAffinity
]

export const findAdmission = (name: string): AdmissionEntry | undefined =>
  admissions.find((entry) => entry.name === name)

export const findOrdering = (name: string): OrderingEntry | undefined =>
  orderings.find((entry) => entry.name === name)

export const findPlacement = (name: string): PlacementEntry | undefined =>
  placements.find((entry) => entry.name === name)
