/*
 * Places batches in every form until the engine has compiled all code, says so, and goes on. Run by `steadyState.test.ts` with the
 * collector's log on; with `--copy` it keeps a copy of each result.
 */
import { BatchPlacement } from "../../../src/structures/BatchPlacement.ts"
import { RadixPlacement } from "../../../src/structures/RadixPlacement.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { chainedRequests, requestsOf, workersOf } from "../../support/batches.ts"

/** Printed when from here on nothing should be allocated. */
export const COMPILED = "everything is compiled"

const WARM_ROUNDS = 20_000
/** The collector runs every 7 MB: it does when one of the forms leaves 120 bytes a batch. */
const ROUNDS = 60_000

const placeOften = (copies: boolean): void => {
  const rng = makeRng(1)
  const costs = Array.from({ length: 12 }, () => 1 + rng.int(40))
  const order = [0, 1, 2, 3]
  const workersWith = (headroom: () => number) =>
    workersOf({ costs, order, rows: order.map(() => ({ backlog: 0, speed: 1, headroom: headroom() })) })
  const ample = workersWith(() => Number.POSITIVE_INFINITY)
  const tight = workersWith(() => 40 + rng.int(20))
  const requests = requestsOf({ costs, rows: [], order })
  const chained = chainedRequests(costs.map((cost) => [cost % 3, cost % 5, cost]))
  const placed = new Int32Array(costs.length)
  const placement = new BatchPlacement()
  const radix = new RadixPlacement()
  const kept: Array<unknown> = Array.from({ length: 64 }, () => null)
  const round = (number: number): void => {
    placement.place(requests, ample, placed)
    placement.place(requests, tight, placed)
    placement.place(requests, ample, placed, 0.5)
    placement.place(requests, tight, placed, 0)
    radix.place(chained, tight, placed)
    if (copies) kept[number % 64] = [...placed]
  }
  for (let number = 0; number < WARM_ROUNDS; number++) round(number)
  console.error(COMPILED)
  for (let number = 0; number < ROUNDS; number++) round(number)
}

if (import.meta.main) placeOften(process.argv.includes("--copy"))
