import { expect, test } from "bun:test"
import fc from "fast-check"
import { openLoop } from "../../../src/cluster/replay/openLoop.ts"
import type { Timers } from "../../../src/protocol/Timers.ts"

/** A clock that jumps to the next timer, and is late by `lateMs` each time. */
const clock = (lateMs: number): Timers & { readonly run: () => void } => {
  let nowMs = 0
  let waiting: Array<{ readonly atMs: number; readonly run: () => void }> = []
  return {
    nowMs: () => nowMs,
    after: (delayMs, run) => {
      const timer = { atMs: nowMs + delayMs, run }
      waiting.push(timer)
      return () => (waiting = waiting.filter((other) => other !== timer))
    },
    every: () => () => undefined,
    run: () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        nowMs = Math.max(nowMs, next.atMs) + lateMs
        next.run()
      }
    }
  }
}

const offsets = fc.array(fc.nat(50), { maxLength: 600 }).map((gaps) => {
  let atMs = 0
  return gaps.map((gap) => (atMs += gap))
})

test("every request leaves once, in order, never before it is due, and no later than the clock is", () => {
  fc.assert(
    fc.property(offsets, fc.nat(200), (offsetsMs, lateMs) => {
      const timers = clock(lateMs)
      const sent: Array<number> = []
      openLoop(timers, offsetsMs, (index, dueMs) => {
        expect(index).toBe(sent.length)
        expect(dueMs).toBe(offsetsMs[index]!)
        expect(timers.nowMs()).toBeGreaterThanOrEqual(dueMs)
        if (lateMs === 0) expect(timers.nowMs()).toBe(dueMs)
        sent.push(index)
      })
      timers.run()
      expect(sent).toHaveLength(offsetsMs.length)
    })
  )
})

test("a stopped loop sends nothing more", () => {
  const timers = clock(0)
  const sent: Array<number> = []
  const stop = openLoop(timers, [0, 1], (index) => sent.push(index))
  stop()
  timers.run()
  expect(sent).toEqual([])
})
