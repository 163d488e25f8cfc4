import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PrefixChain } from "../../src/structures/PrefixChain.ts"
import { PrefixIndex } from "../../src/structures/PrefixIndex.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { findsAll } from "../support/planted.ts"
import {
  type Blocks,
  chainOf,
  type Expectation,
  hashOf,
  NaivePrefixIndex
} from "./support/NaivePrefixIndex.ts"

/** In four leaves of the worker sets. */
const workers = [0, 1, 31, 32, 127]
/** As small as can be: room for 255 blocks and 64 expectations. */
const smallest = { workersMax: 128, bytesMax: 40_000 }
const makeIndex = (): PrefixIndex => new PrefixIndex(smallest)

type Step =
  | { readonly do: "stored"; readonly worker: number; readonly chain: Blocks; readonly from: number }
  | { readonly do: "storedBehind"; readonly worker: number; readonly chain: Blocks; readonly parent: number }
  | { readonly do: "removed"; readonly worker: number; readonly chain: Blocks; readonly from: number }
  | { readonly do: "expect"; readonly worker: number; readonly chain: Blocks; readonly forMs: number }
  | { readonly do: "expectUntil"; readonly which: number; readonly forMs: number }
  | { readonly do: "withdraw"; readonly which: number }
  | { readonly do: "expire"; readonly afterMs: number }
  | { readonly do: "shrink"; readonly worker: number; readonly blocksMax: number }
  | { readonly do: "forget"; readonly worker: number }

/** Steps about chains whose blocks are `block`s: `growth` adds outweigh what takes away. */
const stepsOver = (
  chain: fc.Arbitrary<Blocks>,
  block: fc.Arbitrary<number>,
  { maxLength = 40, growth = 1 } = {}
): fc.Arbitrary<ReadonlyArray<Step>> => {
  const worker = fc.constantFrom(...workers)
  const from = fc.nat(4)
  const forMs = fc.oneof(fc.nat(40), fc.constant(Number.POSITIVE_INFINITY))
  const which = fc.nat(20)
  const step = fc.oneof<Array<fc.WeightedArbitrary<Step>>>(
    { weight: 4 * growth, arbitrary: fc.record({ do: fc.constant("stored"), worker, chain, from }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("storedBehind"), worker, chain, parent: block }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("removed"), worker, chain, from }) },
    { weight: 4 * growth, arbitrary: fc.record({ do: fc.constant("expect"), worker, chain, forMs }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("expectUntil"), which, forMs }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("withdraw"), which }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("expire"), afterMs: fc.nat(20) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("shrink"), worker, blocksMax: fc.nat(8) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("forget"), worker }) }
  )
  return fc.array(step, { maxLength, size: "max" })
}

/** Each block stands for all before it, as clients that do not lie make them: three ways on at each of six blocks. */
const honestChain = fc
  .array(fc.nat(2), { minLength: 1, maxLength: 6 })
  .map((turns) => turns.map((_, i) => turns.slice(0, i + 1).reduce((path, turn) => path * 3 + turn + 1, 10)))

/** Anything a client may say: with few blocks most chains contradict others, repeat a block or contain the hash 0. */
const wildChain = fc.array(fc.nat(11), { maxLength: 6 })

/** Ten conversations of 60 blocks, which can be left for another end at two blocks: three times as many as there is room for. */
const longChain = fc
  .record({
    conversation: fc.nat(9),
    fork: fc.constantFrom(20, 40, 60),
    length: fc.integer({ min: 1, max: 60 })
  })
  .map(({ conversation, fork, length }) =>
    Array.from({ length }, (_, i) => 1000 * (conversation + 1) + i + (i < fork ? 0 : 100 * (fork / 20)))
  )

/** Takes every step twice, in the index and in plain sets, and compares all answers after each. In the end all blocks are removed. */
const agrees = (index: PrefixIndex, steps: ReadonlyArray<Step>): void => {
  const model = new NaivePrefixIndex(index.entriesMax, index.expectationsMax)
  const expected: Array<{ readonly handle: number; readonly expectation?: Expectation | undefined }> = []
  const chains: Array<Blocks> = []
  let nowMs = 0
  for (const step of steps) {
    if ("chain" in step) chains.push(step.chain)
    const { handle, expectation } = ("which" in step && expected.at(-1 - step.which)) || { handle: -1 }
    switch (step.do) {
      case "stored": {
        const from = Math.min(step.from, step.chain.length)
        const parent = step.chain[from - 1] ?? 0
        const blocks = step.chain.slice(from)
        expect(
          index.stored(step.worker, ...hashOf(parent), chainOf(step.chain), from, step.chain.length)
        ).toBe(model.stored(step.worker, parent, blocks))
        break
      }
      case "storedBehind": {
        const { worker, parent, chain } = step
        expect(index.stored(worker, ...hashOf(parent), chainOf(chain), 0, chain.length)).toBe(
          model.stored(worker, parent, chain)
        )
        break
      }
      case "removed": {
        const from = Math.min(step.from, step.chain.length)
        index.removed(step.worker, chainOf(step.chain), from, step.chain.length)
        model.removed(step.worker, step.chain.slice(from))
        break
      }
      case "expect": {
        const made = index.expect(step.worker, chainOf(step.chain), nowMs + step.forMs)
        const wanted = model.expect(step.worker, step.chain, nowMs + step.forMs)
        expect(made >= 0).toBe(wanted !== undefined)
        expected.push({ handle: made, expectation: wanted })
        break
      }
      case "expectUntil":
        index.expectUntil(handle, nowMs + step.forMs)
        if (expectation !== undefined) expectation.endMs = nowMs + step.forMs
        break
      case "withdraw":
        index.withdraw(handle)
        model.withdraw(expectation)
        break
      case "expire":
        nowMs += step.afterMs
        index.expire(nowMs)
        model.expire(nowMs)
        break
      case "shrink":
        index.shrink(step.worker, step.blocksMax)
        model.shrink(step.worker, step.blocksMax)
        break
      case "forget":
        index.forget(step.worker)
        model.forget(step.worker)
    }
    compare(index, model, chains.slice(-3))
  }
  const everything = chainOf([...model.parents.keys()])
  for (const worker of workers) index.removed(worker, everything, 0, everything.count)
  index.expire(Number.POSITIVE_INFINITY)
  expect([index.entryCount, index.expectationCount, index.setNodeCount]).toEqual([0, 0, 0])
}

const compare = (index: PrefixIndex, model: NaivePrefixIndex, chains: ReadonlyArray<Blocks>): void => {
  const counts = workers.map((worker) => index.heldCount(worker))
  expect([index.entryCount, index.expectationCount, ...counts].join()).toBe(
    [
      model.parents.size,
      model.expectations.length,
      ...workers.map((worker) => model.heldBy(worker).size)
    ].join()
  )
  for (const chain of chains) {
    const depths = workers.map((worker) => model.depth(chain, worker))
    expect(workers.map((worker) => index.depth(chainOf(chain), worker)).join()).toBe(depths.join())
    const rows = rowsOf(index, chain)
    for (const [i, { blocks }] of rows.entries())
      if (i > 0) expect(blocks).toBeLessThanOrEqual(rows[i - 1]!.blocks)
    const matched = workers.map((worker) => rows.find((row) => row.worker === worker)?.blocks ?? 0)
    expect(matched.join()).toBe(depths.join())
    expect(rows.length).toBe(depths.filter((blocks) => blocks > 0).length)
  }
}

const rowsOf = (index: PrefixIndex, chain: Blocks) => {
  const { count, workers, blocks } = index.match(chainOf(chain))
  return [...workers.subarray(0, count)].map((worker, i) => ({ worker, blocks: blocks[i]! }))
}

const anything = stepsOver(wildChain, fc.nat(11))
const crowding = stepsOver(longChain, fc.nat(9), { maxLength: 100, growth: 8 })

describe("equals plain sets, searched through, under any sequence of operations", () => {
  test.each([
    ["chains of clients that do not lie", stepsOver(honestChain, honestChain.map(last)), 1000],
    ["chains that contradict each other", anything, 1000],
    ["more blocks than there is room for: what was used longest ago goes first", crowding, 60]
  ])("%s", (_, steps, numRuns) => {
    fc.assert(
      fc.property(steps, (steps) => agrees(makeIndex(), steps)),
      { numRuns }
    )
  })
})

type Subject = new (options: typeof smallest) => PrefixIndex

/** The law of the chains that contradict each other, with the smallest example of no interest. */
const equalsSets = {
  id: "prefix-index",
  check: (Index: Subject) =>
    fc.assert(
      fc.property(anything, (steps) => agrees(new Index(smallest), steps)),
      { numRuns: 1000, seed: 1, endOnFailure: true }
    )
}

const slips: ReadonlyArray<readonly [string, Subject]> = [
  [
    "an expectation lives on for the millisecond in which it ends",
    class extends PrefixIndex {
      override expire(nowMs: number): void {
        super.expire(nowMs - 1)
      }
    }
  ],
  [
    "a handle is given out again",
    class extends PrefixIndex {
      private readonly handles: Array<number | undefined> = []
      override expect(worker: number, chain: PrefixChain, untilMs: number): number {
        const handle = super.expect(worker, chain, untilMs)
        if (handle < 0) return handle
        const free = this.handles.indexOf(undefined)
        const at = free < 0 ? this.handles.length : free
        this.handles[at] = handle
        return at
      }
      override withdraw(handle: number): void {
        super.withdraw(this.handles[handle] ?? -1)
        this.handles[handle] = undefined
      }
      override expectUntil(handle: number, untilMs: number): void {
        super.expectUntil(this.handles[handle] ?? -1, untilMs)
      }
    }
  ],
  [
    "two expectations of a chain are one",
    class extends PrefixIndex {
      private readonly made = new Map<string, number>()
      override expect(worker: number, chain: PrefixChain, untilMs: number): number {
        const key = `${worker} ${chain.high.join()} ${chain.low.join()}`
        super.withdraw(this.made.get(key) ?? -1)
        const handle = super.expect(worker, chain, untilMs)
        this.made.set(key, handle)
        return handle
      }
    }
  ],
  [
    "of several removed blocks the last one goes",
    class extends PrefixIndex {
      override removed(worker: number, chain: PrefixChain, from: number, to: number): void {
        super.removed(worker, chain, Math.max(from, to - 1), to)
      }
    }
  ],
  [
    "blocks behind an unknown one begin a prompt",
    class extends PrefixIndex {
      override stored(
        worker: number,
        high: number,
        low: number,
        chain: PrefixChain,
        from: number,
        to: number
      ): number {
        const taken = super.stored(worker, high, low, chain, from, to)
        return taken > 0 ? taken : super.stored(worker, 0, 0, chain, from, to)
      }
    }
  ],
  [
    "a worker that is gone is still expected to do things",
    class extends PrefixIndex {
      private readonly chains: Array<PrefixChain> = []
      override stored(
        worker: number,
        high: number,
        low: number,
        chain: PrefixChain,
        from: number,
        to: number
      ): number {
        this.chains.push(chain)
        return super.stored(worker, high, low, chain, from, to)
      }
      override forget(worker: number): void {
        for (const chain of this.chains) this.removed(worker, chain, 0, chain.count)
      }
    }
  ],
  [
    "a block counts for all before it, whatever the chain says they are",
    class extends PrefixIndex {
      override depth(chain: PrefixChain, worker: number): number {
        const exact = super.depth(chain, worker)
        const { count, high, low } = chain
        const alone = { count: 1, high: high.subarray(count - 1), low: low.subarray(count - 1) }
        return count > 1 && super.depth(alone, worker) === 1 ? count : exact
      }
    }
  ]
]

describe("planted defects", () =>
  findsAll(
    [equalsSets],
    slips.map(([slip, Index]) => [slip, equalsSets.id, Index] as const)
  ))

test("a shorter chain matches as the longer one does, cut off", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ worker: fc.nat(127), chain: honestChain })),
      honestChain,
      (said, chain) => {
        const index = makeIndex()
        for (const { worker, chain } of said) index.stored(worker, 0, 0, chainOf(chain), 0, chain.length)
        const whole = rowsOf(index, chain)
        for (let length = 0; length <= chain.length; length++) {
          const cut = whole.map(({ worker, blocks }) => ({ worker, blocks: Math.min(blocks, length) }))
          const rows = rowsOf(index, chain.slice(0, length))
          expect(rows.toSorted(byWorker)).toEqual(cut.filter(({ blocks }) => blocks > 0).toSorted(byWorker))
        }
      }
    )
  )
})

test("a match reads the blocks that are known, and of the others as many as a search does", () => {
  const index = new PrefixIndex({ workersMax: 1, bytesMax: 2_000_000 })
  const { count, high, low } = chainOf(Array.from({ length: 4096 }, (_, i) => 100 + i))
  for (const known of [0, 1, 100, 4096]) {
    index.stored(0, 0, 0, { count, high, low }, 0, known)
    let reads = 0
    const counted = new Proxy(high, { get: (column, at) => (reads++, Reflect.get(column, at)) })
    expect(index.match({ count, high: counted, low }).blocks[0]).toBe(known)
    expect(reads).toBeLessThanOrEqual(known + 13)
  }
})

describe("when there is no room for another block", () => {
  /** Chains of one block, stored one after the other, until the index is full. */
  const filled = () => {
    const index = makeIndex()
    const chains = Array.from({ length: index.entriesMax }, (_, i) => chainOf([1000 + i]))
    for (const chain of chains) index.stored(0, 0, 0, chain, 0, 1)
    return { index, oldest: chains[0]!, second: chains[1]! }
  }
  const newcomer = chainOf([5000])

  test.each<[string, (index: PrefixIndex, chain: PrefixChain) => unknown]>([
    ["stored", (index, chain) => index.stored(1, 0, 0, chain, 0, 1)],
    ["expected", (index, chain) => index.withdraw(index.expect(1, chain, 1))]
  ])("one that was %s lately is not dropped", (_, use) => {
    const { index, oldest, second } = filled()
    use(index, oldest)
    index.match(second)
    index.depth(second, 0)
    index.stored(0, 0, 0, newcomer, 0, 1)
    expect([oldest, second, newcomer].map((chain) => index.depth(chain, 0))).toEqual([1, 0, 1])
  })

  test.each<[string, (index: PrefixIndex, chain: PrefixChain) => unknown]>([
    ["stored", (index, chain) => index.stored(1, 0, 0, chain, 0, chain.count)],
    ["expected", (index, chain) => index.expect(1, chain, 1)]
  ])("one is not dropped for those %s behind it", (_, add) => {
    const { index } = filled()
    index.stored(0, 0, 0, chainOf([5000, 5001]), 0, 2)
    // From here on the two are the oldest.
    for (let i = 2; i < index.entriesMax; i++) index.stored(0, 0, 0, chainOf([6000 + i]), 0, 1)
    const chain = chainOf([5000, 7000, 7001, 7002])
    add(index, chain)
    expect([index.depth(chain, 1), index.depth(chain, 0), index.depth(chainOf([5000, 5001]), 0)]).toEqual([
      4, 1, 1
    ])
  })

  test("what is said is taken, for the sake of sets of workers too", () => {
    const rng = makeRng(1)
    const index = new PrefixIndex({ workersMax: 10_000, bytesMax: 2_000_000 })
    const pair = (i: number): PrefixChain => chainOf([1000 + 2 * i, 1001 + 2 * i])
    const say = (chain: PrefixChain): void => {
      const worker = rng.int(10_000)
      expect(index.stored(worker, 0, 0, chain, 0, 2)).toBe(2)
      expect(index.depth(chain, worker)).toBe(2)
    }
    let pairs = 0
    do say(pair(pairs++))
    while (index.match(pair(0)).count > 0)
    // Each of these is the next to be dropped when another worker says that it caches it.
    for (let i = 0; i < pairs; i++) say(pair(i))
    expect(index.entryCount).toBeLessThan(index.entriesMax)
  })
})

describe("memory", () => {
  test.each([64, 1000, 10_000])("a million blocks of %d workers fit into 200 MB", (workersMax) => {
    expect(new PrefixIndex({ workersMax, bytesMax: 200_000_000 }).entriesMax).toBeGreaterThan(1_000_000)
  })

  test.each([
    [1, 40_000],
    [64, 150_000],
    [300, 1_000_000],
    [10_000, 2_000_000]
  ])("of %d workers stays below %d bytes, whatever is said and expected", (workersMax, bytesMax) => {
    const rng = makeRng(1)
    const index = new PrefixIndex({ workersMax, bytesMax })
    for (let i = 0; i < 3 * index.entriesMax; i++) {
      const first = 1000 + 8 * (i >> rng.int(3))
      const chain = chainOf(Array.from({ length: 1 + rng.int(8) }, (_, depth) => first + depth))
      const worker = rng.int(workersMax)
      if (rng.int(2) === 0) index.stored(worker, 0, 0, chain, 0, chain.count)
      else index.expect(worker, chain, Number.POSITIVE_INFINITY)
      if (i % 64 === 0) expect(index.bytes).toBeLessThanOrEqual(bytesMax)
    }
    expect(index.entryCount).toBeGreaterThan(index.entriesMax / 4)
    expect(index.expectationCount).toBeLessThanOrEqual(index.expectationsMax)
    index.match(chainOf(Array.from({ length: 1000 }, (_, i) => 1000 + i)))
    for (let worker = 0; worker < workersMax; worker++) index.forget(worker)
    expect([index.entryCount, index.expectationCount, index.setNodeCount]).toEqual([0, 0, 0])
    expect(index.bytes).toBe(new PrefixIndex({ workersMax, bytesMax }).bytes)
  })

  test("what was removed is never held, even where there is no room to write that down", () => {
    const index = new PrefixIndex({ workersMax: 256, bytesMax: 45_000 })
    const everyone = Array.from({ length: 200 }, (_, worker) => worker)
    const chains = everyone.map((worker) => chainOf([1000 + worker]))
    const storeAll = (): void => {
      for (const worker of everyone) for (const chain of chains) index.stored(worker, 0, 0, chain, 0, 1)
    }
    storeAll()
    expect(index.entryCount).toBe(chains.length)
    // Each block is held by other workers then: more sets than there is room for.
    for (const worker of everyone) {
      index.removed(worker, chains[worker]!, 0, 1)
      for (const gone of everyone.slice(0, worker + 1)) expect(index.depth(chains[gone]!, gone)).toBe(0)
    }
    expect(index.entryCount).toBeLessThan(chains.length)
    storeAll()
    expect(index.entryCount).toBe(chains.length)
    expect(index.heldCount(5)).toBe(chains.length)
  })
})

test.each([-1, 128, Number.NaN])("%d is not a worker", (worker) => {
  const index = makeIndex()
  const chain = chainOf([1])
  expect(() => index.stored(worker, 0, 0, chain, 0, 1)).toThrow("below the bound")
  expect(() => index.removed(worker, chain, 0, 1)).toThrow("below the bound")
  expect(() => index.expect(worker, chain, 1)).toThrow("below the bound")
  expect(() => index.forget(worker)).toThrow("below the bound")
})

test("too little memory is refused", () => {
  expect(() => new PrefixIndex({ workersMax: 128, bytesMax: 30_000 })).toThrow("room for 256 blocks")
  expect(() => new PrefixIndex({ workersMax: 10_000, bytesMax: 200_000 })).toThrow("room for 256 blocks")
})

function last(chain: Blocks): number {
  return chain.at(-1)!
}

function byWorker(a: { readonly worker: number }, b: { readonly worker: number }): number {
  return a.worker - b.worker
}
