import type { PoolView } from "../../domain/PoolView.ts"
import { SlotLists } from "../../structures/SlotLists.ts"
import { isEligible } from "../eligibility.ts"
import { definePlacement } from "../Placement.ts"
import { powerOfTwo } from "./powerOfTwo.ts"

/**
 * Workers that run out of prompts queue up for more, so finding one takes no search and no message. A worker that only decodes counts as
 * idle: another prompt is what it has room for.
 */
export const joinIdleQueue = definePlacement(
  {
    name: "join-idle-queue",
    summary:
      "The worker that has been without a prompt to compute for longest, else the less loaded of two random ones.",
    definition:
      "A worker is idle when no prompt is pending there and the KV tokens of the requests in flight are at most kvLimit of its cache (any " +
      "number where the size is unknown). It joins a queue when that becomes so and leaves it when it gets a request; the first in " +
      "the queue that is eligible and still idle is picked and leaves it, as do those before it. With an empty queue the least inFlight / " +
      "speed of two distinct random workers is picked. A worker that left and got no request joins again with its next heartbeat.",
    cost: "O(log N)",
    source: "Lu, Xie, Kliot, Geller, Larus, Greenberg, Join-Idle-Queue, Performance Evaluation 68(11), 2011",
    stability: "stable",
    family: "sampling"
  },
  {
    kvLimit: {
      kind: "number",
      default: 0.9,
      minimum: 0,
      maximum: 1,
      summary:
        "Share of the KV cache up to which a worker counts as idle. Smaller values keep work from those with long contexts; at 0 only a worker " +
        "with nothing in flight is idle."
    }
  },
  ({ kvLimit }, rng) => {
    const withoutIdle = powerOfTwo.make({}, rng)
    const lists = new SlotLists(2)
    const isIdle = (worker: number, { workers }: PoolView): boolean => {
      const capacityTokens = workers.kvCapacityTokens[worker]!
      return (
        workers.prefilling[worker] === 0 &&
        (capacityTokens === 0 || workers.contextTokens[worker]! <= kvLimit * capacityTokens)
      )
    }
    /** Of a worker that is in one of the lists, which is to say ready. */
    const review = (worker: number, pool: PoolView): void => {
      const list = isIdle(worker, pool) ? IDLE : BUSY
      const before = lists.listOf(worker)
      if (before < 0 || before === list) return
      lists.remove(worker)
      lists.pushBack(list, worker)
    }
    return {
      pick: (request, pool, nowMs) => {
        for (let worker = lists.first(IDLE); worker >= 0; worker = lists.first(IDLE)) {
          lists.remove(worker)
          lists.pushBack(BUSY, worker)
          if (isEligible(pool, worker) && isIdle(worker, pool)) return worker
        }
        return withoutIdle.pick(request, pool, nowMs)
      },
      placed: (_request, worker, pool) => review(worker, pool),
      started: (_request, worker, pool) => review(worker, pool),
      released: (_request, worker, _reason, pool) => review(worker, pool),
      observed: review,
      changed: (worker, ready, pool) => {
        lists.remove(worker)
        if (!ready) return
        lists.pushBack(BUSY, worker)
        review(worker, pool)
      }
    }
  }
)

/** A ready worker is in one of these lists, in the order in which they came to it. */
const IDLE = 0
const BUSY = 1
