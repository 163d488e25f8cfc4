import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { EMPTY, WorkerSets, workerSetsBytes } from "../../src/structures/WorkerSets.ts"
import { holds } from "../support/arbitraries.ts"

const membersOf = (sets: WorkerSets, set: number, other = EMPTY): Array<number> => {
  const into = new Int32Array(10_000)
  return [...into.subarray(0, sets.difference(set, other, into, 0))]
}

const ascending = (a: number, b: number): number => a - b

describe.each([1, 32, 33, 500, 10_000])("sets of %d workers", (workersMax) => {
  // Mostly a few, so that they join and leave again.
  const few = fc.constantFrom(0, 1, workersMax >>> 1, workersMax - 1).map((worker) => worker % workersMax)
  const worker = fc.oneof(few, few, fc.nat(workersMax - 1))
  const step = fc.record({ of: fc.nat(5), join: fc.boolean(), worker })

  test("are plain sets; equal ones have equal ids, and nothing is left of those that are released", () => {
    holds(
      fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
        const sets = new WorkerSets(workersMax, 4096)
        const ids = [0, 1, 2, 3, 4, 5].map(() => EMPTY)
        const models = ids.map(() => new Set<number>())
        for (const { of, join, worker } of steps) {
          const before = ids[of]!
          ids[of] = join ? sets.with(before, worker) : sets.without(before, worker)
          sets.release(before)
          if (join) models[of]!.add(worker)
          else models[of]!.delete(worker)
          expect(sets.has(ids[of], worker)).toBe(join)
        }
        for (const [i, id] of ids.entries()) {
          const members = [...models[i]!].toSorted(ascending)
          expect(membersOf(sets, id)).toEqual(members)
          for (const [j, other] of ids.entries()) {
            expect(id === other).toBe(models[i]!.symmetricDifference(models[j]!).size === 0)
            expect(membersOf(sets, id, other)).toEqual(members.filter((member) => !models[j]!.has(member)))
          }
        }
        for (const id of ids) sets.release(id)
        expect(sets.size).toBe(0)
      })
    )
  })
})

test("a worker cannot leave where there is no room for the rest, which costs nothing", () => {
  const sets = new WorkerSets(500, 64)
  const ids = [EMPTY]
  while (sets.room >= sets.depth) ids.push(sets.with(ids.at(-1)!, (ids.length * 37) % 500))
  for (let worker = 37; sets.room > 0; worker = (worker + 37) % 500) {
    const rest = sets.without(ids.at(-1)!, worker)
    if (rest < 0) break
    ids.push(rest)
  }
  const { size } = sets
  const full = ids.at(-1)!
  const members = membersOf(sets, full)
  const refused = members.filter((worker) => {
    const rest = sets.without(full, worker)
    if (rest >= 0) sets.release(rest)
    return rest < 0
  })
  expect(refused.length).toBeGreaterThan(0)
  expect([sets.size, membersOf(sets, full)]).toEqual([size, members])
  expect(sets.bytes).toBeLessThanOrEqual(workerSetsBytes(64))
  expect(() => sets.with(EMPTY, 499)).toThrow("room for one more set")
  for (const id of ids) sets.release(id)
  expect(sets.size).toBe(0)
})

test("are gone after a clear", () => {
  const sets = new WorkerSets(500, 64)
  const { bytes } = new WorkerSets(500, 64)
  sets.with(sets.with(EMPTY, 1), 499)
  sets.clear()
  expect([sets.size, sets.room, sets.bytes]).toEqual([0, 63, bytes])
  expect(membersOf(sets, sets.with(EMPTY, 7))).toEqual([7])
})
