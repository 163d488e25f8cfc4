import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { PrefixIndex, type PrefixMatch } from "../../src/structures/PrefixIndex.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { chainOf } from "./support/NaivePrefixIndex.ts"

interface Subject {
  readonly matchEnding: (index: PrefixIndex, high: number, low: number) => PrefixMatch
}

/** Blocks that stand for all before them: three ways on at each. */
const blocksOf = (turns: ReadonlyArray<number>): ReadonlyArray<number> =>
  turns.map((_, i) => turns.slice(0, i + 1).reduce((path, turn) => path * 3 + turn + 1, 10))

const turns = fc.array(fc.nat(2), { minLength: 1, maxLength: 6 })
const uses = fc.array(
  fc.record({ worker: fc.constantFrom(0, 1, 31, 32, 127), turns, expected: fc.boolean() }),
  {
    maxLength: 30
  }
)

const shown = ({ count, workers, blocks }: PrefixMatch) =>
  Array.from({ length: count }, (_, i) => [workers[i], blocks[i]] as const)

const laws = [
  {
    id: "prefix-index-ending",
    check: ({ matchEnding }: Subject) =>
      holds(
        fc.property(uses, turns, (used, asked) => {
          const index = new PrefixIndex({ workersMax: 128, bytesMax: 40_000 })
          for (const { worker, turns, expected } of used) {
            const chain = chainOf(blocksOf(turns))
            if (expected) index.expect(worker, chain, Number.POSITIVE_INFINITY)
            else index.stored(worker, 0, 0, chain, 0, chain.count)
          }
          const chain = chainOf(blocksOf(asked))
          const last = chain.count - 1
          const known = used.some(({ turns }) => asked.every((turn, i) => turns[i] === turn))
          const found = shown(matchEnding(index, chain.high[last]!, chain.low[last]!))
          expect(found).toEqual(known ? shown(index.match(chain)) : [])
        })
      )
  }
]

const asItIs: Subject = { matchEnding: (index, high, low) => index.matchEnding(high, low) }

describe("who holds the chain that ends with a block", () => {
  keepsAll(laws, asItIs)

  test("is asked for chains longer than any before", () => {
    const index = new PrefixIndex({ workersMax: 8, bytesMax: 1 << 20 })
    const blocks = Array.from({ length: 1000 }, (_, i) => i + 1)
    const chain = chainOf(blocks)
    for (let from = 0; from < 1000; from++)
      index.stored(
        3,
        from === 0 ? 0 : chain.high[from - 1]!,
        from === 0 ? 0 : chain.low[from - 1]!,
        chain,
        from,
        from + 1
      )
    expect(shown(index.matchEnding(chain.high[999]!, chain.low[999]!))).toEqual([[3, 1000]])
  })
})

describe("planted defects of it", () => {
  const defects: ReadonlyArray<Planted<Subject>> = [
    [
      "takes an unknown block for the whole tree",
      "prefix-index-ending",
      {
        matchEnding: (index, high, low) => {
          const found = index.matchEnding(high, low)
          return found.count > 0 ? found : { count: 1, workers: new Int32Array(1), blocks: new Int32Array(1) }
        }
      }
    ],
    [
      "leaves out the last block",
      "prefix-index-ending",
      {
        matchEnding: (index, high, low) => {
          const { count, workers, blocks } = index.matchEnding(high, low)
          return { count, workers, blocks: blocks.map((each) => each - 1) }
        }
      }
    ]
  ]
  findsAll(laws, defects)
})
