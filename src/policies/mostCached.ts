/** Most tokens of a prompt that one of the workers slots[0 .. count) has cached; 0 without workers. */
export const mostCached = (slots: Int32Array, count: number, cachedTokens: Float64Array): number => {
  let most = 0
  for (let i = 0; i < count; i++) most = Math.max(most, cachedTokens[slots[i]!]!)
  return most
}
