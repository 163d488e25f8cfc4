/**
 * Sorts `values[0 .. count)` so that none comes before another that `before` says it follows; equals keep their order. `scratch` is at
 * least as long. At most count·⌈log₂ count⌉ comparisons; nothing is allocated.
 */
export const stableSort = (
  values: Int32Array,
  count: number,
  scratch: Int32Array,
  before: (a: number, b: number) => boolean
): void => {
  let from = values
  let to = scratch
  for (let width = 1; width < count; width *= 2) {
    for (let start = 0; start < count; start += 2 * width) {
      const middle = Math.min(start + width, count)
      const end = Math.min(start + 2 * width, count)
      let left = start
      let right = middle
      for (let at = start; at < end; at++)
        to[at] =
          left < middle && (right >= end || !before(from[right]!, from[left]!))
            ? from[left++]!
            : from[right++]!
    }
    // Swapping by destructuring would allocate.
    const sorted = to
    to = from
    from = sorted
  }
  if (from !== values) for (let i = 0; i < count; i++) values[i] = from[i]!
}
