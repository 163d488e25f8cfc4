/**
 * Finds a position of least key. Positions are 0 .. count − 1, each with a key that is not NaN; there are none at first. `fill` costs
 * O(count), the others O(log count), and nothing is allocated but for the growth to the largest count seen.
 *
 * Source: tournament trees, Knuth, The Art of Computer Programming 3, 5.2.3.
 */
export class LeastTree {
  /** Leaves: a power of two. Those beyond the last position never win. */
  private width = 1
  /** By node: the least key below it. Node 1 is the root, nodes 2 i and 2 i + 1 are the halves of node i. */
  private keys = new Float64Array(2)

  /** Gives the positions below `count` these keys, and drops all others. */
  fill(given: Float64Array, count: number): void {
    const width = 2 ** Math.ceil(Math.log2(Math.max(1, count)))
    if (2 * width > this.keys.length) this.keys = new Float64Array(2 * width)
    const { keys } = this
    this.width = width
    keys.fill(Number.POSITIVE_INFINITY, width + count)
    for (let position = 0; position < count; position++) keys[width + position] = given[position]!
    for (let node = width - 1; node > 0; node--) keys[node] = Math.min(keys[2 * node]!, keys[2 * node + 1]!)
  }

  set(position: number, key: number): void {
    const { keys } = this
    let node = this.width + position
    keys[node] = key
    for (let above = node >> 1; above > 0; above >>= 1) {
      const least = Math.min(keys[node]!, keys[node ^ 1]!)
      if (keys[above] === least) return
      keys[above] = least
      node = above
    }
  }

  /** The first position of least key from `from` on, or else from 0 on. There must be positions. */
  firstFrom(from: number): number {
    const { keys, width } = this
    const least = keys[1]!
    let node = width + from
    if (keys[node]! > least) {
      // Up to where the half on the right has it; at the root, round the end.
      while (node > 1 && ((node & 1) === 1 || keys[node + 1]! > least)) node >>= 1
      if (node > 1) node++
    }
    while (node < width) {
      node *= 2
      if (keys[node]! > least) node++
    }
    return node - width
  }
}
