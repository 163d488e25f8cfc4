/** By class, the last for all after it. They fall, so that of a tenant no class is let in where a more urgent one is refused. */
const byClass = Float64Array.of(1, 0.9, 0.7)

/** Share of a bound that requests of this class may fill: what is beyond is kept free for more urgent ones. */
export const classCeiling = (requestClass: number): number =>
  byClass[Math.min(requestClass, byClass.length - 1)]!

/** The rule of `QueueView.ceiling`, for definitions. */
export const ceilingRule =
  "Class 0 may fill the bounds, class 1 nine tenths of them, all others seven tenths: the rest is kept for more urgent requests. While " +
  "others are refused for want of it, tenants that were served more than they leave up to three tenths of that free."
