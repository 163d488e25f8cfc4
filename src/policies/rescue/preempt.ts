import { bytes, grow } from "../../structures/grow.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { comparePlaced } from "../comparePlaced.ts"
import { ACTIONS_MAX, defineRescue } from "../Rescue.ts"

/** Priority classes told apart; later ones count as the last. */
const CLASSES = 256
const PREEMPTIONS_MAX = 2

/** Only work that has not started is taken back, so nothing that was computed is lost and no stream is broken. */
export const preempt = defineRescue(
  {
    name: "preempt",
    summary: "Takes back unstarted requests of less urgent classes while more urgent ones wait for a place.",
    definition:
      "While no worker has room and a request of class c waits, the unstarted request of the least urgent class above c, and of these the " +
      "one placed last (at one moment: the higher id), goes back into the queue: one for each that waits. A request is taken back " +
      "twice at most. Of use where the ordering gives out urgent classes first.",
    action: "requeue",
    cost: "O(N)",
    source:
      "preemption of one lower class before the first byte, as in SMG's priority scheduler (lightseekorg/smg, read 2026-08)",
    stability: "stable"
  },
  {},
  () => {
    const waiting = new Int32Array(CLASSES)
    let preemptions = new Uint8Array(0)
    return {
      admitted: (request) => {
        const { slot } = request
        if (slot >= preemptions.length) preemptions = grow(preemptions, slot, bytes)
        preemptions[slot] = 0
        waiting[classOf(request)]!++
      },
      placed: (request) => void waiting[classOf(request)]!--,
      released: (request) => void waiting[classOf(request)]!++,
      ended: (request) => void waiting[classOf(request)]!--,
      review: (pool, placed, { requeue }) => {
        for (let left = ACTIONS_MAX; left > 0 && pool.eligibleCount === 0; left--) {
          const urgent = waiting.findIndex((count) => count > 0)
          if (urgent < 0) return
          let victim: RequestView | undefined
          let victimMs = 0
          placed.unstarted((request, _worker, placedMs) => {
            if (classOf(request) <= urgent || preemptions[request.slot]! >= PREEMPTIONS_MAX) return
            if (victim !== undefined && goesBefore(victim, victimMs, request, placedMs)) return
            victim = request
            victimMs = placedMs
          })
          if (victim === undefined) return
          preemptions[victim.slot]!++
          requeue(victim.slot)
        }
      }
    }
  }
)

const classOf = (request: RequestView): number => Math.min(CLASSES - 1, request.class)

/** Whether `one` is to be taken back before `other`. */
const goesBefore = (one: RequestView, oneMs: number, other: RequestView, otherMs: number): boolean =>
  (classOf(one) - classOf(other) || comparePlaced(one, oneMs, other, otherMs)) > 0
