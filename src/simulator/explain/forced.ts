import { isEligible } from "../../policies/eligibility.ts"
import type { Pipeline } from "../../policies/pipelines.ts"
import type { Placement } from "../../policies/Placement.ts"
import type { RequestView } from "../../domain/RequestView.ts"

/**
 * A pipeline that sends one request, whole, to `worker` when some worker is first picked for it, if that one may get it. All else it decides
 * anew: the placement policy is asked as ever, so that its memory and its randomness are what they would be.
 */
export const forced = (
  pipeline: Pipeline,
  isMeant: (request: RequestView) => boolean,
  worker: number
): Pipeline => {
  const { placement } = pipeline
  const { decodeOn, pickBatch } = placement
  let isForced = false
  let isDone = false
  const may = (request: RequestView): boolean => !isDone && request.attempt === 1 && isMeant(request)
  const made: Placement = {
    ...placement,
    pick: (request, pool, nowMs) => {
      const picked = placement.pick(request, pool, nowMs)
      isForced = picked >= 0 && may(request) && isEligible(pool, worker)
      if (!isForced) return picked
      isDone = true
      return worker
    },
    ...(decodeOn === undefined ? {} : { decodeOn: () => (isForced ? -1 : decodeOn()) }),
    ...(pickBatch === undefined
      ? {}
      : {
          pickBatch: (requests, pool, nowMs, picked) => {
            pickBatch(requests, pool, nowMs, picked)
            const at = requests.findIndex(may)
            if (at < 0 || picked[at]! < 0 || !isEligible(pool, worker)) return
            isDone = true
            picked[at] = worker
          }
        })
  }
  return { ...pipeline, placement: made }
}
