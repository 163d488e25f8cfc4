import { expect, test } from "bun:test"
import { Stopwatch } from "../../src/actors/Stopwatch.ts"

/** One whose clock goes on by 2 ms each time it is read. */
const make = () => {
  let nowMs = 0
  let reads = 0
  const watch = new Stopwatch(() => {
    reads++
    return (nowMs += 2)
  })
  return { watch, reads: () => reads }
}

test("one in 61 is timed, and for no other the clock is read", () => {
  const { watch, reads } = make()
  for (let i = 0; i < 61 * 3; i++) {
    watch.begin()
    watch.end()
  }
  expect([watch.ms.count, watch.ms.sum, reads()]).toEqual([3, 6, 6])
})

test("what threw before its end is not counted: the next is timed in its place", () => {
  const { watch } = make()
  for (let i = 0; i < 60; i++) {
    watch.begin()
    watch.end()
  }
  watch.begin()
  watch.begin()
  watch.end()
  expect([watch.ms.count, watch.ms.sum]).toEqual([1, 2])
})
