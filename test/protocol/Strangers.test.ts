import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { Strangers } from "../../src/protocol/Strangers.ts"
import { holds } from "../support/arbitraries.ts"

const LIMIT = 3
const GRACE_MS = 10

test("of one address the oldest has to go, once there are too many and it has had its time; others never", () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant("add" as const), address: fc.constantFrom("a", "b") })
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), which: fc.nat(30) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(2 * GRACE_MS) }) }
  )
  let evicted = 0
  holds(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), (steps) => {
      const strangers = new Strangers<number>(LIMIT, GRACE_MS)
      /** By number, oldest first. */
      let present: ReadonlyArray<{
        readonly peer: number
        readonly address: string
        readonly sinceMs: number
      }> = []
      let nowMs = 0
      let next = 0
      const leave = (peer: number) => {
        present = present.filter((each) => each.peer !== peer)
      }
      for (const action of steps) {
        if (action.kind === "pass") nowMs += action.ms
        else if (action.kind === "delete") {
          const { peer, address } = present[action.which % Math.max(1, present.length)] ?? {
            peer: 99,
            address: "a"
          }
          strangers.delete(address, peer)
          strangers.delete(address, peer)
          leave(peer)
        } else {
          strangers.add(action.address, next, nowMs)
          present = [...present, { peer: next++, address: action.address, sinceMs: nowMs }]
        }
        for (const address of ["a", "b", "c"]) {
          const own = present.filter((each) => each.address === address)
          const oldest = own[0]
          const expected =
            own.length > LIMIT && nowMs - oldest!.sinceMs >= GRACE_MS ? oldest!.peer : undefined
          expect(strangers.excess(address, nowMs)).toBe(expected)
          if (expected === undefined) continue
          evicted++
          strangers.delete(address, expected)
          leave(expected)
        }
      }
    })
  )
  expect(evicted).toBeGreaterThan(1000)
})
