import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { Charge, WorkerTable } from "../../src/actors/WorkerTable.ts"
import { waitMs } from "../../src/policies/costs.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Make = () => WorkerTable

/** A worker that computes a token a ms, in order of arrival, in steps without length. */
const tableOf = (make: Make): WorkerTable => {
  const table = make()
  table.baseMs[0] = 0
  table.prefillTokenMs[0] = 1
  table.prefillAttentionMs[0] = 0
  table.decodeSequenceMs[0] = 0
  table.decodeContextMs[0] = 0
  return table
}

/** Pauses before arrivals in ms, and tokens of the prompts. */
const traffic = fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 1, max: 200 })), {
  minLength: 1,
  maxLength: 20
})

const laws = [
  {
    // Told of each first token when it comes, and of nothing in between.
    id: "charges-wait",
    check: (make: Make) =>
      holds(
        fc.property(traffic, (arrivals) => {
          const table = tableOf(make)
          const waiting: Array<{ readonly charge: Charge; readonly endsMs: number }> = []
          let nowMs = 0
          let freeMs = 0
          for (const [pauseMs, tokens] of arrivals) {
            nowMs += pauseMs
            while (waiting.length > 0 && waiting[0]!.endsMs <= nowMs) {
              const { charge, endsMs } = waiting.shift()!
              table.started(charge, endsMs)
              table.release(charge)
            }
            expect(waitMs(table, 0, nowMs)).toBe(Math.max(0, freeMs - nowMs))
            const charge = new Charge()
            table.charge(charge, 0, tokens, 0, 1, nowMs)
            freeMs = Math.max(nowMs, freeMs) + tokens
            waiting.push({ charge, endsMs: freeMs })
          }
        })
      )
  },
  {
    // Whoever hangs has worked off what it was computing at most.
    id: "charges-hang",
    check: (make: Make) =>
      holds(
        fc.property(traffic, (arrivals) => {
          const table = tableOf(make)
          let nowMs = 0
          let sentMs = 0
          for (const [pauseMs, tokens] of arrivals) {
            nowMs += pauseMs
            table.charge(new Charge(), 0, tokens, 0, 1, nowMs)
            sentMs += tokens
            expect(waitMs(table, 0, nowMs)).toBeGreaterThanOrEqual(sentMs - arrivals[0]![1])
          }
        })
      )
  }
]

const defects: ReadonlyArray<Planted<Make>> = [
  [
    "does not see that a prompt is done",
    "charges-wait",
    () =>
      new (class extends WorkerTable {
        override started(charge: Charge): void {
          super.started(charge, this.prefillSinceMs[0]!)
        }
      })(1)
  ],
  [
    "begins anew with every prompt",
    "charges-wait",
    () =>
      new (class extends WorkerTable {
        override charge(
          ...[charge, worker, prompt, cached, answer, nowMs]: Parameters<WorkerTable["charge"]>
        ) {
          super.charge(charge, worker, prompt, cached, answer, nowMs)
          this.prefillSinceMs[worker] = nowMs
        }
      })(1)
  ],
  [
    "takes what is sent for what is being computed",
    "charges-hang",
    () =>
      new (class extends WorkerTable {
        override charge(
          ...[charge, worker, prompt, cached, answer, nowMs]: Parameters<WorkerTable["charge"]>
        ) {
          super.charge(charge, worker, prompt, cached, answer, nowMs)
          this.prefillDueMs[worker] = Number.POSITIVE_INFINITY
        }
      })(1)
  ]
]

describe("charges", () => keepsAll(laws, () => new WorkerTable(1)))
describe("planted defects", () => findsAll(laws, defects))
