import type { Placement } from "../../../src/policies/Placement.ts"

/** Splits requests with an odd id, and every one that has to be; of the others `whole` decides. */
export const splitting = (whole: Placement): Placement => {
  let producer = -1
  return {
    ...whole,
    pick: (request, pool, nowMs) => {
      const { eligibleCount, prefill, prefillCount, decode, decodeCount } = pool
      const { idLow } = request
      const isWhole = idLow % 2 === 0 && eligibleCount > 0
      producer = -1
      if (isWhole || prefillCount === 0 || decodeCount === 0) return whole.pick(request, pool, nowMs)
      producer = decode[idLow % decodeCount]!
      return prefill[idLow % prefillCount]!
    },
    decodeOn: () => producer
  }
}
