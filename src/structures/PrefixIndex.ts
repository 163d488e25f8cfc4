import { assert } from "./assert.ts"
import { Expectations, expectationsBytes } from "./Expectations.ts"
import { grow, ints } from "./grow.ts"
import { PairIndex, pairIndexBytes } from "./PairIndex.ts"
import type { PrefixChain } from "./PrefixChain.ts"
import { PrefixTree, prefixTreeBytes, ROOT } from "./PrefixTree.ts"
import { SLOT_HEAP_BYTES, SlotHeap } from "./SlotHeap.ts"
import { EMPTY, WorkerSets, workerSetsBytes } from "./WorkerSets.ts"

const NONE = -1
/** So that expectations fill the shortest column. */
const ENTRIES_MIN = 256
const ENTRIES_PER_EXPECTATION = 4
/** One in so many nodes of worker sets is kept for removals, which must be written down. */
const NODES_PER_RESERVED = 8

export interface PrefixIndexOptions {
  /** Workers are numbers below this. */
  readonly workersMax: number
  readonly bytesMax: number
}

/** The workers that hold at least the first block of a chain, and how many leading blocks each holds; those with most come first. */
export interface PrefixMatch {
  /** Only so many elements count. */
  readonly count: number
  readonly workers: Int32Array
  readonly blocks: Int32Array
}

/**
 * Which worker holds which prefix blocks: those it said it caches, and those it is expected to cache.
 *
 * A worker holds a block only if it holds all blocks before it, so of any chain it holds the first so many blocks. What it says of
 * blocks behind one that it does not hold is not taken, and with a block that it removed goes what it cached behind it. While anybody
 * holds a block, it stays behind the one it was first known behind: a chain that says otherwise counts up to there. So what is found is
 * exact for any chain, made up or not; only what did not fit into memory is missing.
 *
 * `bytesMax` bounds all tables together. They grow by doubling, so that between half of it and all of it can be used. When a block finds
 * no room, the blocks that were stored or expected longest ago are dropped, last blocks first, but none that is expected; when all are,
 * the block is not taken. Nothing is allocated but for that growth. Of a worker that never says what it caches, `shrink` keeps as many
 * blocks as its cache has room for.
 *
 * Hashes are to be mixed with a secret before they come here, or a client can choose some that are slow to find.
 */
export class PrefixIndex {
  readonly workersMax: number
  /** Blocks there is room for. */
  readonly entriesMax: number
  private readonly nodesReserved: number
  /** The blocks that somebody holds. The value of an entry is the set of workers that hold it. */
  private readonly tree = new PrefixTree()
  private readonly sets: WorkerSets
  /** By entry: the set of workers that said they cache it. */
  private resident = new Int32Array(0)
  private readonly expectations: Expectations
  /**
   * A worker holds an entry that it did not speak of for the sake of expectations that end there, and of children it holds. By entry
   * and worker: how many of these there are besides the first. Never more pairs than expectations.
   */
  private readonly furtherReasons = new PairIndex()
  /** The entries without children and expectations, by last use: a use of an entry is one of all before it. */
  private readonly idle = new SlotHeap()
  private uses = 0
  /** An entry that must not be dropped while room is made. */
  private kept = NONE
  /** By worker: the entries it holds. */
  private readonly heldCounts: Int32Array
  private readonly matched: { count: number; readonly workers: Int32Array; readonly blocks: Int32Array }
  /** The entries of a chain from its first block on. */
  private path = new Int32Array(ENTRIES_MIN)
  /** Who holds an entry that is dropped. */
  private readonly holders: Int32Array

  constructor({ workersMax, bytesMax }: PrefixIndexOptions) {
    let entries = ENTRIES_MIN
    assert(bytesOf(entries, workersMax) <= bytesMax, "a prefix index has room for 256 blocks")
    while (bytesOf(entries * 2, workersMax) <= bytesMax) entries *= 2
    this.workersMax = workersMax
    // One of them is the root.
    this.entriesMax = entries - 1
    this.nodesReserved = entries / NODES_PER_RESERVED
    this.sets = new WorkerSets(workersMax, entries)
    assert(2 * this.sets.depth <= this.nodesReserved, "what one block adds leaves room for removals")
    this.expectations = new Expectations(workersMax, entries / ENTRIES_PER_EXPECTATION)
    this.heldCounts = new Int32Array(workersMax)
    this.matched = { count: 0, workers: new Int32Array(workersMax), blocks: new Int32Array(workersMax) }
    this.holders = new Int32Array(workersMax)
  }

  /** Blocks that some worker holds. */
  get entryCount(): number {
    return this.tree.size
  }

  get expectationCount(): number {
    return this.expectations.size
  }

  /** Expectations there is room for. */
  get expectationsMax(): number {
    return this.expectations.sizeMax
  }

  /** Nodes that make up the sets of workers; 0 when there is no block. */
  get setNodeCount(): number {
    return this.sets.size
  }

  /** Of all tables, as they are. */
  get bytes(): number {
    return (
      this.tree.bytes +
      this.sets.bytes +
      this.resident.byteLength +
      this.expectations.bytes +
      this.furtherReasons.bytes +
      this.idle.bytes +
      this.path.byteLength +
      this.heldCounts.byteLength * WORKER_COLUMNS
    )
  }

  /** How many blocks a worker holds. */
  heldCount(worker: number): number {
    return this.heldCounts[worker]!
  }

  /**
   * All workers at once; the result is valid until the next call. O(log blocks) searches, about 2 ns for each block that is known, and
   * O(workers that match).
   */
  match(chain: PrefixChain): PrefixMatch {
    return this.holdersOf(this.locate(chain))
  }

  /** As `match`, of the chain that ends with a block; nobody holds any of it when that block is not known. O(its blocks). */
  matchEnding(high: number, low: number): PrefixMatch {
    const { tree } = this
    const last = Math.max(tree.find(high, low), ROOT)
    let depth = 0
    for (let entry = last; entry !== ROOT; entry = tree.parentOf(entry)) depth++
    if (depth > this.path.length) this.path = grow(this.path, depth - 1, ints)
    for (let entry = last, i = depth; entry !== ROOT; entry = tree.parentOf(entry)) this.path[--i] = entry
    return this.holdersOf(depth)
  }

  /** How many leading blocks of a chain `worker` holds. Costs as `match`, for one worker. */
  depth(chain: PrefixChain, worker: number): number {
    return this.heldDepth(this.locate(chain), worker)
  }

  /**
   * A worker says that it caches the blocks `chain[from .. to)` behind the parent; behind nothing when that has the hash 0. So it caches
   * the parent and all before it, said or not. What was expected up to one of the blocks it had not spoken of, or speaks of now, has
   * come true. Returns how many blocks were taken: none when the worker does not hold the parent. O(blocks), and O(the worker's
   * expectations) for each that comes true.
   */
  stored(
    worker: number,
    parentHigh: number,
    parentLow: number,
    chain: PrefixChain,
    from: number,
    to: number
  ): number {
    this.check(worker)
    const { tree } = this
    let last = tree.find(parentHigh, parentLow)
    if (!this.holds(last, worker) || !this.confirmUpTo(last, worker)) return 0
    let i = from
    for (; i < to; i++) {
      const high = chain.high[i]!
      const low = chain.low[i]!
      const known = tree.find(high, low)
      if (known >= 0 && tree.parentOf(known) !== last) break
      if (!this.makeRoom(known < 0, known < 0 ? last : known)) break
      const entry = known < 0 ? this.create(last, high, low) : known
      this.confirm(entry, worker)
      last = entry
    }
    this.touch(last)
    this.settle(last)
    return i - from
  }

  /**
   * A worker says that it caches the blocks `chain[from .. to)` no more. It goes on holding those that are expected. O(1) for a block
   * with none behind it, else O(children) of it and of what goes with it.
   */
  removed(worker: number, chain: PrefixChain, from: number, to: number): void {
    this.check(worker)
    for (let i = to - 1; i >= from; i--) {
      const entry = this.tree.find(chain.high[i]!, chain.low[i]!)
      if (entry > ROOT && this.sets.has(this.resident[entry]!, worker)) this.unconfirm(entry, worker)
    }
  }

  /**
   * A worker is expected to cache a chain, and holds it until it says that it cached the last block, or the expectation is withdrawn, or
   * `untilMs` has come, which may be never. Expectations count: a block is held while one of them is left. Returns a handle, or -1 when
   * nothing is expected, for want of room; of a chain that does not fit, what fits is. Costs as `depth`, and O(1) for each block that the
   * worker did not hold.
   */
  expect(worker: number, chain: PrefixChain, untilMs: number): number {
    this.check(worker)
    const { tree, expectations } = this
    if (expectations.size === expectations.sizeMax) return NONE
    const known = this.locate(chain)
    const { path } = this
    const held = this.heldDepth(known, worker)
    const deepest = known > 0 ? path[known - 1]! : ROOT
    let end = held
    for (; end < chain.count; end++) {
      const fresh = end >= known
      const high = chain.high[end]!
      const low = chain.low[end]!
      if (fresh && tree.find(high, low) >= 0) break
      if (!this.makeRoom(fresh, deepest)) break
      if (fresh) path[end] = this.create(end > 0 ? path[end - 1]! : ROOT, high, low)
      this.hold(path[end]!, worker)
    }
    if (end === 0) return NONE
    if (held > 0) this.addReason(path[held - 1]!, worker)
    const last = path[end - 1]!
    const handle = expectations.add(last, worker, untilMs)
    this.touch(last)
    this.settle(last)
    return handle
  }

  /** Changes when an expectation ends; nothing if it has ended. */
  expectUntil(handle: number, untilMs: number): void {
    const slot = this.expectations.find(handle)
    if (slot >= 0) this.expectations.setEnd(slot, untilMs)
  }

  /** Ends an expectation that will not come true; nothing if it has ended. O(blocks that the worker held for its sake alone). */
  withdraw(handle: number): void {
    const slot = this.expectations.find(handle)
    if (slot >= 0) this.lapse(slot)
  }

  /** Ends the expectations whose time has come. */
  expire(nowMs: number): void {
    const { expectations } = this
    for (let slot = expectations.ended(nowMs); slot >= 0; slot = expectations.ended(nowMs)) this.lapse(slot)
  }

  /** Ends a worker's expectations, the oldest first, until it holds at most `blocksMax` blocks or nothing is expected of it. */
  shrink(worker: number, blocksMax: number): void {
    const { expectations, heldCounts } = this
    while (heldCounts[worker]! > blocksMax && expectations.oldestOf(worker) >= 0)
      this.lapse(expectations.oldestOf(worker))
  }

  /**
   * The worker is gone, or its word is void: it holds nothing. O(blocks it held, and their siblings). When no block is left, all memory
   * is given back.
   */
  forget(worker: number): void {
    this.check(worker)
    const { tree } = this
    this.shrink(worker, 0)
    let entry = this.residentFrom(tree.firstChild(ROOT), worker)
    while (entry >= 0) {
      const next = this.residentFrom(tree.nextSibling(entry), worker)
      if (!this.unconfirm(entry, worker)) return
      entry = next
    }
    if (tree.size === 0) this.clear()
  }

  /** Fills `path` with the entries of a chain's leading blocks, and returns how many are known one behind the other. */
  private locate(chain: PrefixChain): number {
    const length = Math.min(chain.count, this.entriesMax)
    if (length > this.path.length) this.path = grow(this.path, length - 1, ints)
    return this.tree.locate(chain, this.path)
  }

  /** Who holds the first `depth` entries of `path`. */
  private holdersOf(depth: number): PrefixMatch {
    const { matched, path, tree, sets } = this
    const { workers, blocks } = matched
    const everyone = depth > 0 ? tree.valueOf(path[0]!) : EMPTY
    let count = 0
    let deeper = EMPTY
    for (let i = depth - 1; deeper !== everyone; i--) {
      const set = tree.valueOf(path[i]!)
      if (set === deeper) continue
      const end = sets.difference(set, deeper, workers, count)
      while (count < end) blocks[count++] = i + 1
      deeper = set
    }
    matched.count = count
    return matched
  }

  /** How many of the first `known` entries of `path` a worker holds. */
  private heldDepth(known: number, worker: number): number {
    const { path } = this
    let held = 0
    let lacking = known
    while (held < lacking) {
      const middle = (held + lacking) >>> 1
      if (this.holds(path[middle]!, worker)) held = middle + 1
      else lacking = middle
    }
    return held
  }

  private holds(entry: number, worker: number): boolean {
    return entry === ROOT || (entry > ROOT && this.sets.has(this.tree.valueOf(entry), worker))
  }

  /**
   * Drops what was not used for longest, but never `kept`, until one more worker can hold a block: a `fresh` one, or one that is known.
   * False when all is in use.
   */
  private makeRoom(fresh: boolean, kept: number): boolean {
    const sizeMax = fresh ? this.entriesMax - 1 : this.entriesMax
    if (this.hasRoom(sizeMax)) return true
    this.kept = kept
    this.settle(kept)
    for (let entry = this.idle.first; entry >= 0 && !this.hasRoom(sizeMax); entry = this.idle.first)
      this.drop(entry)
    this.kept = NONE
    this.settle(kept)
    return this.hasRoom(sizeMax)
  }

  private hasRoom(sizeMax: number): boolean {
    return this.tree.size <= sizeMax && this.sets.room >= this.nodesReserved
  }

  /** Whoever holds an idle entry said that it caches it, and caches the parent: no one has a reason less to hold that. */
  private drop(entry: number): void {
    const { sets, holders } = this
    const held = this.tree.valueOf(entry)
    const count = sets.difference(held, EMPTY, holders, 0)
    for (let i = 0; i < count; i++) this.heldCounts[holders[i]!]!--
    sets.release(held)
    sets.release(this.resident[entry]!)
    this.remove(entry)
  }

  private create(parent: number, high: number, low: number): number {
    const entry = this.tree.add(parent, high, low)
    if (entry >= this.resident.length) this.resident = grow(this.resident, entry, ints)
    this.resident[entry] = EMPTY
    this.idle.remove(parent)
    return entry
  }

  /** Removes an entry whose sets are released. */
  private remove(entry: number): void {
    const { idle, tree } = this
    const parent = tree.parentOf(entry)
    idle.remove(entry)
    tree.remove(entry)
    if (parent === ROOT) return
    idle.setKey(parent, Math.max(idle.keyOf(parent), idle.keyOf(entry)))
    this.settle(parent)
  }

  private touch(entry: number): void {
    this.idle.setKey(entry, ++this.uses)
  }

  /** Lists an entry as idle, or not. */
  private settle(entry: number): void {
    if (entry <= ROOT) return
    const idle = this.tree.firstChild(entry) < 0 && !this.expectations.anyOf(entry) && entry !== this.kept
    if (idle) this.idle.add(entry)
    else this.idle.remove(entry)
  }

  private hold(entry: number, worker: number): void {
    const { tree, sets } = this
    const before = tree.valueOf(entry)
    tree.setValue(entry, sets.with(before, worker))
    sets.release(before)
    this.heldCounts[worker]!++
  }

  /** False when everything was given up. */
  private unhold(entry: number, worker: number): boolean {
    const { tree, sets } = this
    const before = tree.valueOf(entry)
    const after = sets.without(before, worker)
    if (after === NONE) return this.giveUp()
    sets.release(before)
    tree.setValue(entry, after)
    this.heldCounts[worker]!--
    if (after === EMPTY) this.remove(entry)
    return true
  }

  /** The worker caches an entry, and the parent. What was expected up to here has come true. */
  private confirm(entry: number, worker: number): void {
    const { sets } = this
    const before = this.resident[entry]!
    if (!sets.has(before, worker)) {
      if (this.holds(entry, worker)) this.furtherReasons.delete(entry, worker)
      else this.hold(entry, worker)
      this.resident[entry] = sets.with(before, worker)
      sets.release(before)
    }
    this.expectations.fulfil(entry, worker)
  }

  /** Confirms an entry that the worker holds, and those before it, from the first on. False when there is no room. */
  private confirmUpTo(last: number, worker: number): boolean {
    let length = 0
    for (
      let at = last;
      at !== ROOT && !this.sets.has(this.resident[at]!, worker);
      at = this.tree.parentOf(at)
    ) {
      if (length === this.path.length) this.path = grow(this.path, length, ints)
      this.path[length++] = at
    }
    while (length > 0) {
      if (!this.makeRoom(false, NONE)) return false
      this.confirm(this.path[--length]!, worker)
    }
    return true
  }

  /** The worker caches an entry no more, nor what is behind it, which goes first. False when everything was given up. */
  private unconfirm(top: number, worker: number): boolean {
    const { tree } = this
    let entry = top
    let down = true
    for (;;) {
      const child = down ? this.residentFrom(tree.firstChild(entry), worker) : NONE
      if (child >= 0) {
        entry = child
        continue
      }
      const sibling = entry === top ? NONE : this.residentFrom(tree.nextSibling(entry), worker)
      const parent = tree.parentOf(entry)
      if (!this.unconfirmOne(entry, worker)) return false
      if (entry === top) return true
      down = sibling >= 0
      entry = down ? sibling : parent
    }
  }

  /** Of an entry behind which the worker caches nothing. */
  private unconfirmOne(entry: number, worker: number): boolean {
    const { sets } = this
    const before = this.resident[entry]!
    const after = sets.without(before, worker)
    if (after === NONE) return this.giveUp()
    sets.release(before)
    this.resident[entry] = after
    const reasons = this.reasons(entry, worker)
    if (reasons === 0) return this.unhold(entry, worker)
    if (reasons > 1) this.furtherReasons.set(entry, worker, reasons - 1)
    return true
  }

  /** The first that the worker said it caches, of an entry and the siblings after it; -1 when there is none. */
  private residentFrom(first: number, worker: number): number {
    let entry = first
    while (entry >= 0 && !this.sets.has(this.resident[entry]!, worker)) entry = this.tree.nextSibling(entry)
    return entry
  }

  /** Expectations of a worker that end at an entry, and children of it that the worker holds. */
  private reasons(entry: number, worker: number): number {
    const { tree } = this
    let count = this.expectations.count(entry, worker)
    for (let child = tree.firstChild(entry); child >= 0; child = tree.nextSibling(child))
      if (this.holds(child, worker)) count++
    return count
  }

  /** One reason more to hold an entry that the worker holds. */
  private addReason(entry: number, worker: number): void {
    if (this.sets.has(this.resident[entry]!, worker)) return
    const further = Math.max(0, this.furtherReasons.get(entry, worker))
    this.furtherReasons.set(entry, worker, further + 1)
  }

  /** Ends an expectation, and what the worker held for its sake alone. */
  private lapse(slot: number): void {
    const { expectations, furtherReasons } = this
    const worker = expectations.workerOf(slot)
    let entry = expectations.entryOf(slot)
    expectations.remove(slot)
    this.settle(entry)
    while (entry !== ROOT && !this.sets.has(this.resident[entry]!, worker)) {
      const further = furtherReasons.get(entry, worker)
      if (further === 1) return furtherReasons.delete(entry, worker)
      if (further > 1) return furtherReasons.set(entry, worker, further - 1)
      const parent = this.tree.parentOf(entry)
      if (!this.unhold(entry, worker)) return
      entry = parent
    }
  }

  /** There is no room to write down what was removed: better to know nothing than what is wrong. */
  private giveUp(): false {
    this.clear()
    return false
  }

  private clear(): void {
    this.tree.clear()
    this.sets.clear()
    this.resident = new Int32Array(0)
    this.expectations.clear()
    this.furtherReasons.clear()
    this.idle.clear()
    this.heldCounts.fill(0)
    this.path = new Int32Array(ENTRIES_MIN)
  }

  private check(worker: number): void {
    assert(worker >= 0 && worker < this.workersMax, "workers are numbers below the bound")
  }
}

/** Columns by worker, those of a match among them. */
const WORKER_COLUMNS = 4

/** Most bytes of all tables together. */
const bytesOf = (entries: number, workers: number): number => {
  const expectations = entries / ENTRIES_PER_EXPECTATION
  const column = entries * Int32Array.BYTES_PER_ELEMENT
  return (
    prefixTreeBytes(entries) +
    workerSetsBytes(entries) +
    // Who said that he caches an entry, and the longest path.
    2 * column +
    expectationsBytes(expectations, entries, workers) +
    pairIndexBytes(expectations) +
    entries * SLOT_HEAP_BYTES +
    WORKER_COLUMNS * workers * Int32Array.BYTES_PER_ELEMENT
  )
}
