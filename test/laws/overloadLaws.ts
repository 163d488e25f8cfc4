import { expect } from "bun:test"
import type { Admission } from "../../src/policies/Admission.ts"
import type { Rng } from "../../src/structures/Rng.ts"
import { overloaded, type OverloadResult } from "../support/overloadModel.ts"

export type AdmissionMaker = (rng: Rng) => Admission

export interface OverloadLaw {
  readonly id: string
  readonly statement: string
  readonly check: (make: AdmissionMaker) => void
}

/** Requests a second that the model's pool ends when it is never idle and lets everyone in: its load 1. */
const FULL_PER_SECOND = 13.5
const loads = [1.5, 2, 3]
/** Requests a worker takes at once: few, so that they queue at the balancer, and more than ever come. */
const capacities = [64, 1000]

const at = (
  make: AdmissionMaker,
  load: number,
  options: { readonly capacity: number; readonly pricesOff?: number; readonly retries?: number }
): OverloadResult => overloaded({ admission: make, perSecond: load * FULL_PER_SECOND, ...options })

/** What is asked of an admission policy under overload, in a model of four workers (test/support/overloadModel.ts). */
export const overloadLaws: ReadonlyArray<OverloadLaw> = [
  {
    id: "overload-goodput",
    statement:
      "1.5, 2 and 3 times the load that a pool can serve leave 95 % of the goodput at load 1, and more",
    check: (make) => {
      for (const capacity of capacities) {
        const { goodput } = at(make, 1, { capacity })
        for (const load of loads)
          expect(at(make, load, { capacity }).goodput).toBeGreaterThanOrEqual(0.95 * goodput)
      }
    }
  },
  {
    id: "overload-late",
    statement: "of those let in at most one in twenty is late, and at load 0.9 none is refused",
    check: (make) => {
      for (const capacity of capacities) {
        expect(at(make, 0.9, { capacity })).toMatchObject({ refused: 0, late: 0 })
        for (const load of loads) {
          const { goodput, late } = at(make, load, { capacity })
          expect(late).toBeLessThanOrEqual(0.05 * (late + goodput * 120))
        }
      }
    }
  },
  {
    id: "overload-calibrated",
    statement: "prices 3 times too high or too low leave four fifths of the goodput that the right ones give",
    check: (make) => {
      for (const capacity of capacities)
        for (const load of loads) {
          const { goodput } = at(make, load, { capacity })
          for (const pricesOff of [1 / 3, 3])
            expect(at(make, load, { capacity, pricesOff }).goodput).toBeGreaterThanOrEqual(0.8 * goodput)
        }
    }
  },
  {
    id: "overload-retries",
    statement: "clients that ask three times more when they are refused cost at most 5 % of the goodput",
    check: (make) => {
      for (const capacity of capacities)
        for (const load of loads) {
          const { goodput } = at(make, load, { capacity })
          expect(at(make, load, { capacity, retries: 3 }).goodput).toBeGreaterThanOrEqual(0.95 * goodput)
        }
    }
  }
]
