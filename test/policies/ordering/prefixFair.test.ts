import { expect, test } from "bun:test"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { BLOCK_TOKENS, chainOf, equalWorkers, poolOf } from "../../support/pools.ts"

const policy = findOrdering("prefix-fair")
const begin = (options: Parameters<typeof policy.make>[0], pool: PoolView): OrderingLife =>
  new OrderingLife(policy.make(options, makeRng(1)), pool)

/** A pool with one worker for each number of blocks that it holds of any request. */
const holding = (...blocks: ReadonlyArray<number>): PoolView =>
  poolOf(equalWorkers(blocks.length).map((row, i) => ({ ...row, cachedTokens: blocks[i]! * BLOCK_TOKENS })))

const chain = (count: number) => chainOf(Array.from({ length: count }, (_, i) => i))

test("the longest cached prefix goes first, of equal ones the first that came", () => {
  const life = begin({}, holding(8))
  for (const [slot, blocks] of [0, 2, 8, 2, 5].entries())
    life.arrive(slot, { promptTokens: 4096, chain: chain(blocks) })
  expect(Array.from({ length: 5 }, () => life.take())).toEqual([2, 4, 1, 3, 0])
})

test("waiting makes up for a prefix", () => {
  const life = begin({ aging: 1024 }, holding(8))
  life.arrive(0, { promptTokens: 4096 })
  life.nowMs = 1999
  life.arrive(1, { promptTokens: 4096, chain: chain(8) })
  life.nowMs = 2001
  life.arrive(2, { promptTokens: 4096, chain: chain(8) })
  expect([life.take(), life.take(), life.take()]).toEqual([1, 0, 2])
})

test("a tenant without cached prefixes goes when the others have spent their quantum", () => {
  const life = begin({ quantum: 1000, aging: 0 }, holding(8))
  for (let slot = 0; slot < 12; slot++) {
    const tenant = slot % 2
    life.arrive(slot, { tenant, promptTokens: 2100, chain: chain(tenant * 8) })
  }
  const order = Array.from({ length: 8 }, () => {
    const slot = life.take()
    life.place(slot, life.at(slot).tenant === 1 ? 400 : 2100)
    return life.at(slot).tenant
  })
  // 1000 is enough to begin three of 400. A round later that is 800, and the other tenant, who computes all it reads, is 100 short.
  expect(order.join("")).toBe("11101110")
})

test("what workers hold is looked up again before a request is given out, and for others in turn", () => {
  const life = begin({}, holding(0))
  for (let slot = 0; slot < 40; slot++)
    life.arrive(slot, { promptTokens: 4096, chain: chain(slot === 39 ? 8 : 0) })
  expect([life.take(), life.take()]).toEqual([0, 1])
  life.pool = holding(8)
  const until = Array.from({ length: 6 }, () => life.take())
  expect(until).toContain(39)
})

test("with a quantum at each worker a prefix counts while its tenant has something left there", () => {
  const life = begin({ workerQuantum: 500, aging: 0 }, holding(8, 2))
  for (let slot = 0; slot < 4; slot++) life.arrive(slot, { tenant: 0, promptTokens: 4096, chain: chain(8) })
  for (let slot = 10; slot < 14; slot++) life.arrive(slot, { tenant: 1, promptTokens: 4096, chain: chain(4) })
  const order = Array.from({ length: 4 }, () => {
    const slot = life.take()
    life.place(slot, 500, 0)
    return slot
  })
  // Each has spent its quantum at the worker that holds most after one request; then both are left with the 2 blocks of the other.
  expect(order).toEqual([0, 10, 1, 2])
})

test("the answer of a split request is charged where it is produced", () => {
  const life = begin({ workerQuantum: 500, aging: 0, outputPrice: 2 }, holding(8, 2))
  life.arriveAtOnce(0, { promptTokens: 100 }, 10)
  life.handOver(0, 1)
  life.start(0)
  life.produce(0, 250)
  for (const [slot, blocks] of [2, 8].entries())
    life.arrive(slot + 1, { promptTokens: 4096, chain: chain(blocks) })
  expect([life.take(), life.take()]).toEqual([2, 1])
})
