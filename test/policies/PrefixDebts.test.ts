import { expect, test } from "bun:test"
import { PrefixDebts } from "../../src/policies/PrefixDebts.ts"
import { mixBlock } from "../../src/structures/PrefixChain.ts"
import { BLOCK_TOKENS, chainOf, oneRequest } from "../support/pools.ts"

const asking = (...blocks: ReadonlyArray<number>) => ({ ...oneRequest, chain: chainOf(blocks) })

test("what was lost fades, and is lost by requests with the same prefix alone", () => {
  const debts = new PrefixDebts(1000)
  const one = asking(1, 2, 3)
  expect(debts.of(one, 2 * BLOCK_TOKENS, BLOCK_TOKENS, 0)).toBe(0)
  debts.set(80, 0)
  expect(debts.of(asking(1, 2, 4), 2 * BLOCK_TOKENS, BLOCK_TOKENS, 0)).toBe(80)
  expect(debts.of(one, 2 * BLOCK_TOKENS - 1, BLOCK_TOKENS, 1000)).toBeCloseTo(80 / Math.E, 9)
  expect(debts.of(one, BLOCK_TOKENS, BLOCK_TOKENS, 1000)).toBe(0)
  expect(debts.of(one, 3 * BLOCK_TOKENS, BLOCK_TOKENS, 1000)).toBe(0)
})

test("of two prefixes with one row the one that has lost more keeps it", () => {
  const rowOf = (block: number): number => mixBlock(0, chainOf([block]), 0) & 4095
  const other = Array.from({ length: 100_000 }, (_, i) => i + 2).find((block) => rowOf(block) === rowOf(1))!
  const debts = new PrefixDebts(1000)
  const lost = (block: number, nowMs: number): number =>
    debts.of(asking(block), BLOCK_TOKENS, BLOCK_TOKENS, nowMs)
  lost(1, 0)
  debts.set(80, 0)
  expect(lost(other, 0)).toBe(0)
  debts.set(70, 0)
  expect([lost(other, 0), lost(1, 0)]).toEqual([0, 80])
  lost(other, 1000)
  debts.set(70, 1000)
  expect([lost(other, 1000), lost(1, 1000)]).toEqual([70, 0])
})
