/** States what must hold. Always on: a broken assertion is a defect, the actor dies, its supervisor decides. Cost: one branch. */
export function assert(condition: boolean, must: string): asserts condition {
  if (!condition) throw new Error(`broken assertion: ${must}`)
}
