/** By class, the last for all after it. They fall, so that of a tenant no class is let in where a more urgent one is refused. */
const byClass = Float64Array.of(1, 0.9, 0.7)

/** Share of a bound that requests of this class may fill: what is beyond is kept free for more urgent ones. */
export const classCeiling = (requestClass: number): number =>
  byClass[Math.min(requestClass, byClass.length - 1)]!

/** The rule of `QueueView.ceiling`, for definitions. */
export const ceilingRule =
  "Requests of class 0 may fill the whole of a bound, those of class 1 nine tenths, all others seven tenths: the rest is kept for more urgent " +
  "ones. While tenants that were served less are refused for want of room, those that were served more may fill up to three tenths less " +
  "(docs/fairness.md)."
