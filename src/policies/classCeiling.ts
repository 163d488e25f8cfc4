/** By class, the last for all after it. They fall, so that a class is never let in where a more urgent one is refused. */
const ceilings = Float64Array.of(1, 0.9, 0.7)

/** Share of a bound that requests of this class may fill: what is beyond is kept free for more urgent ones. */
export const classCeiling = (requestClass: number): number =>
  ceilings[Math.min(requestClass, ceilings.length - 1)]!

/** The rule, for definitions. */
export const classCeilingRule =
  "Class 0 may fill the bounds, class 1 nine tenths of them, all others seven tenths: the rest is kept for more urgent requests."
