import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { FrameStore } from "../../src/actors/FrameStore.ts"
import { Phase, RequestTable } from "../../src/actors/RequestTable.ts"

describe("RequestTable", () => {
  test("gives out a slot at most once at a time, and a stream id that no earlier use answers to", () => {
    fc.assert(
      fc.property(
        fc.array(fc.option(fc.nat({ max: 99 }), { nil: undefined }), { maxLength: 400 }),
        (steps) => {
          const table = new RequestTable(200, undefined, 20)
          const live = new Map<number, number>()
          const gone = new Set<number>()
          for (const step of steps) {
            if (step === undefined) {
              const request = table.allocate()
              if (request === undefined) expect(live.size).toBe(200)
              else {
                expect(live.has(request.slot)).toBe(false)
                expect(gone.has(request.stream)).toBe(false)
                live.set(request.slot, request.stream)
              }
            } else {
              const slot = [...live.keys()][step % Math.max(1, live.size)]
              if (slot === undefined) continue
              gone.add(live.get(slot)!)
              live.delete(slot)
              table.release(slot)
            }
            expect(table.size).toBe(live.size)
          }
          for (const [slot, stream] of live) expect(table.find(stream)?.slot).toBe(slot)
          for (const stream of gone) expect(table.find(stream)).toBe(undefined)
        }
      )
    )
  })

  test("a request begins without a chain, whatever its slot held before", () => {
    const table = new RequestTable(1, undefined, 1)
    const first = table.allocate()!
    first.newChain().fill(Float64Array.of(1, 2), 0, 2)
    expect(first.chain.count).toBe(2)
    table.release(first.slot)
    expect(table.allocate()!.chain.count).toBe(0)
  })

  test("128 rest, and of the others the last one comes first", () => {
    const table = new RequestTable(1024)
    const slots = Array.from({ length: 1024 }, () => table.allocate()!.slot)
    for (const slot of slots) table.release(slot)
    const again = Array.from({ length: 1024 }, () => table.allocate()!.slot)
    expect(again).toEqual([...slots.slice(0, -128).toReversed(), ...slots.slice(-128)])
  })

  test("where all rest, slots are used first in, first out", () => {
    const table = new RequestTable(1024, undefined, 1024)
    const slots = Array.from({ length: 1024 }, () => table.allocate()!.slot)
    for (const slot of slots) table.release(slot)
    expect(Array.from({ length: 1024 }, () => table.allocate()!.slot)).toEqual(slots)
  })

  test("few requests at a time use few slots, however many there are, and each of them seldom", () => {
    const table = new RequestTable(1024)
    const busy = Array.from({ length: 1024 }, () => table.allocate()!.slot)
    for (const slot of busy.splice(64)) table.release(slot)
    const uses = new Map<number, number>()
    for (let use = 0; use < 10_000; use++) {
      table.release(busy.shift()!)
      const { slot } = table.allocate()!
      expect(use - (uses.get(slot) ?? Number.NEGATIVE_INFINITY)).toBeGreaterThan(128)
      uses.set(slot, use)
      busy.push(slot)
    }
    expect(uses.size).toBeLessThanOrEqual(64 + 128)
  })

  test("lists those there are in the order in which they came, whatever their slots", () => {
    const table = new RequestTable(8, undefined, 1)
    const first = Array.from({ length: 8 }, () => table.allocate()!)
    for (const { slot } of first.slice(0, 6)) table.release(slot)
    const later = [table.allocate()!, table.allocate()!]
    expect(later[0]!.slot).toBeGreaterThan(later[1]!.slot)
    expect(table.all()).toEqual([first[6]!, first[7]!, ...later])
  })

  test("grows to its limit and keeps the facts", () => {
    const table = new RequestTable(5000)
    for (let i = 0; i < 5000; i++) {
      const request = table.allocate()!
      request.idLow = request.slot
    }
    expect(table.allocate()).toBe(undefined)
    for (let slot = 0; slot < 5000; slot++) {
      expect(table.at(slot).idLow).toBe(slot)
      expect(table.at(slot).phase).toBe(Phase.open)
    }
  })

  test("never gives out stream id 0", () => {
    const table = new RequestTable(1)
    for (let use = 0; use < 70_000; use++) {
      const request = table.allocate()!
      expect(request.stream).toBeGreaterThan(0)
      table.release(request.slot)
    }
  })
})

describe("FrameStore", () => {
  test("gives back the bytes of every slot, long and short, and forgets what is dropped", () => {
    const frames = new FrameStore(10_000)
    const bytes = Buffer.from(Array.from({ length: 4000 }, (_, i) => i % 251))
    const sizes = [1, 512, 513, 4000]
    for (const [slot, size] of sizes.entries()) expect(frames.hold(slot * 1000, bytes, 0, size)).toBe(true)
    for (const [i, size] of sizes.entries()) {
      const slot = i * 1000
      const start = frames.startOf(slot)
      expect(frames.lengthOf(slot)).toBe(size)
      expect(
        frames
          .bytesOf(slot)
          .subarray(start, start + size)
          .equals(bytes.subarray(0, size))
      ).toBe(true)
    }
  })

  test("holds no more long frames than its limit, and takes new ones once others are dropped", () => {
    const frames = new FrameStore(2000)
    const bytes = Buffer.alloc(1000)
    expect([
      frames.hold(0, bytes, 0, 1000),
      frames.hold(1, bytes, 0, 1000),
      frames.hold(2, bytes, 0, 1000)
    ]).toEqual([true, true, false])
    frames.drop(1)
    frames.drop(1)
    expect(frames.hold(2, bytes, 0, 1000)).toBe(true)
    expect(frames.hold(3, bytes, 0, 100)).toBe(true)
  })
})
