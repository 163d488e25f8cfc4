import { expect, test } from "bun:test"
import { bytes, floats, grow, ints, nones, words } from "../../src/structures/grow.ts"

const PAGE = 4096
const LINE = 64

test("a grown column holds what it held, and beyond that what new ones are filled with", () => {
  const short = nones(3)
  short.set([7, 8, 9])
  const column = grow(short, 1000, nones)
  expect(column).toHaveLength(1024)
  expect([...column.subarray(0, 5)]).toEqual([7, 8, 9, -1, -1])
})

test.each([
  ["bytes", bytes, 1],
  ["words", words, 4],
  ["ints", ints, 4],
  ["floats", floats, 8]
] as const)("%s: columns of whole pages begin at different lines of theirs", (_, make, size) => {
  const columns = Array.from({ length: 31 }, () => make((2 * PAGE) / size))
  const starts = columns.map(({ byteOffset }) => (byteOffset / LINE) % (PAGE / LINE))
  expect(new Set(starts).size).toBe(31)
  for (const [at, column] of columns.entries()) column.fill(at)
  for (const [at, column] of columns.entries()) expect(column.every((value) => value === at)).toBe(true)
})
