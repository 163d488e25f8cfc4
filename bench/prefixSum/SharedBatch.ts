import { blockStart, prefixSum, sumOf } from "../../src/structures/PrefixSum.ts"
import { segmentStarts } from "../../src/structures/segmentStarts.ts"
import { WaterLevel } from "../../src/structures/WaterLevel.ts"

/** Memory of one batch that all threads work on. */
export interface SharedMemory {
  readonly requestCount: number
  readonly workerCount: number
  readonly threadCount: number
  readonly cost: Float64Array
  readonly sums: Float64Array
  readonly blockSums: Float64Array
  readonly backlog: Float64Array
  readonly speed: Int32Array
  readonly headroom: Float64Array
  readonly edges: Float64Array
  readonly starts: Int32Array
  readonly placed: Int32Array
  /** Threads that have arrived at the barrier, and how often it has opened. */
  readonly barrier: Int32Array
}

const floats = (count: number): Float64Array => new Float64Array(new SharedArrayBuffer(8 * count))
const ints = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * count))

export const sharedMemory = (
  costs: Float64Array,
  backlogs: Float64Array,
  threadCount: number
): SharedMemory => {
  const requestCount = costs.length
  const workerCount = backlogs.length
  const memory = {
    requestCount,
    workerCount,
    threadCount,
    cost: floats(requestCount),
    sums: floats(requestCount),
    blockSums: floats(threadCount),
    backlog: floats(workerCount),
    speed: ints(workerCount).fill(1),
    headroom: floats(workerCount).fill(Number.POSITIVE_INFINITY),
    edges: floats(workerCount),
    starts: ints(workerCount + 1),
    placed: ints(requestCount),
    barrier: ints(2)
  }
  memory.cost.set(costs)
  memory.backlog.set(backlogs)
  return memory
}

/** Looks at the barrier before a thread goes to sleep: a few µs. */
const SPINS = 2_000

/** Returns when all threads have come. */
const meet = ({ barrier, threadCount }: SharedMemory): void => {
  const opened = Atomics.load(barrier, 1)
  if (Atomics.add(barrier, 0, 1) === threadCount - 1) {
    Atomics.store(barrier, 0, 0)
    Atomics.add(barrier, 1, 1)
    Atomics.notify(barrier, 1)
    return
  }
  for (let spin = 0; spin < SPINS; spin++) if (Atomics.load(barrier, 1) !== opened) return
  while (Atomics.load(barrier, 1) === opened) Atomics.wait(barrier, 1, opened)
}

/** Places a batch together with the other threads. Costs are above 0. */
export type PlaceShared = () => void

/**
 * The part of one thread: sums of the blocks; scan of each block, and the level meanwhile; segments of a block of workers. Thread 0 is
 * the one that others wait for between batches.
 */
export const placeShared = (memory: SharedMemory, thread: number): PlaceShared => {
  const { blockSums, cost, edges, placed, requestCount, starts, sums, threadCount, workerCount } = memory
  const from = blockStart(thread, threadCount, requestCount)
  const to = blockStart(thread + 1, threadCount, requestCount)
  const firstWorker = blockStart(thread, threadCount, workerCount)
  const endWorker = blockStart(thread + 1, threadCount, workerCount)
  const vessels = { ...memory, count: workerCount }
  const water = new WaterLevel()
  return () => {
    meet(memory)
    blockSums[thread] = sumOf(cost, from, to)
    meet(memory)
    if (thread === 0) {
      water.fill(sumOf(blockSums, 0, threadCount), vessels)
      edges.set(water.edges.subarray(0, workerCount))
    }
    prefixSum(cost, sums, from, to, sumOf(blockSums, 0, thread))
    meet(memory)
    segmentStarts(sums, requestCount, edges, firstWorker, endWorker, starts)
    for (let k = firstWorker; k < endWorker; k++) placed.fill(k, starts[k], starts[k + 1])
    meet(memory)
  }
}
