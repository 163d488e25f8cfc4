import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { LeastTree } from "../../src/structures/LeastTree.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Subject = () => Pick<LeastTree, "fill" | "set" | "firstFrom">

/** Few values, so that ties are common. */
const key = fc.constantFrom(0, 0.5, 1, 2, Number.POSITIVE_INFINITY)
const keys = fc.array(key, { minLength: 1, maxLength: 40, size: "max" })
const change = fc.record({ at: fc.nat(39), key })

/** The first position of least key from `from` on, round the end. */
const firstByScan = (all: ReadonlyArray<number>, from: number): number => {
  const order = all.map((_, i) => (from + i) % all.length)
  return order.find((position) => all[position] === Math.min(...all))!
}

const laws = [
  {
    id: "least-tree-first",
    check: (make: Subject) =>
      holds(
        fc.property(fc.array(fc.tuple(keys, fc.array(change)), { minLength: 1, maxLength: 3 }), (lives) => {
          const tree = make()
          for (const [filled, changes] of lives) {
            const all = [...filled]
            tree.fill(Float64Array.from(all), all.length)
            for (const { at, key: changed } of [{ at: 0, key: all[0]! }, ...changes]) {
              tree.set(at % all.length, (all[at % all.length] = changed))
              for (const from of all.keys()) expect(tree.firstFrom(from)).toBe(firstByScan(all, from))
            }
          }
        })
      )
  }
]

const changed =
  (differs: (tree: LeastTree) => Partial<ReturnType<Subject>>): Subject =>
  () => {
    const tree = new LeastTree()
    const same = {
      fill: tree.fill.bind(tree),
      set: tree.set.bind(tree),
      firstFrom: tree.firstFrom.bind(tree)
    }
    return { ...same, ...differs(tree) }
  }

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "goes to the first of all ties",
    "least-tree-first",
    changed((tree) => ({ firstFrom: () => tree.firstFrom(0) }))
  ],
  [
    "does not go round the end",
    "least-tree-first",
    changed((tree) => ({ firstFrom: (from) => Math.max(from, tree.firstFrom(from)) }))
  ],
  [
    "lets keys fall only",
    "least-tree-first",
    () => {
      const all: Array<number> = []
      const tree = new LeastTree()
      return {
        fill: (keys, count) => {
          all.splice(0, all.length, ...keys)
          tree.fill(keys, count)
        },
        set: (position, changedKey) =>
          tree.set(position, (all[position] = Math.min(all[position]!, changedKey))),
        firstFrom: (from) => tree.firstFrom(from)
      }
    }
  ],
  [
    "scans one position too few",
    "least-tree-first",
    changed((tree) => ({ fill: (keys, count) => tree.fill(keys, Math.max(1, count - 1)) }))
  ]
]

describe("least tree", () => keepsAll(laws, () => new LeastTree()))
describe("planted defects", () => findsAll(laws, defects))
