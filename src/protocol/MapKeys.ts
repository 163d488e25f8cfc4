/** Keys that can be noted at once. */
export const KEYS_MAX = 65_536

/** Where the text of a noted key begins, and the first byte after it. Of the maps being walked, the innermost one's keys come last. */
export const keyStart = new Uint32Array(KEYS_MAX)
export const keyEnd = new Uint32Array(KEYS_MAX)

/** Up to so many keys each is compared with each: 28 comparisons, most of them of a length. */
const FEW_KEYS_MAX = 8

/**
 * Whether two of the noted keys `[first, last)`, texts in `bytes`, are the same. Also says so of many keys that fall into the same places
 * of the table below, which happens to those that were chosen for it. Allocates nothing. Cost about 2 ns for two keys, for more than
 * eight about 10 ns each and 1 ns a byte.
 */
export const hasTwins = (bytes: Uint8Array, first: number, last: number): boolean => {
  if (last - first > FEW_KEYS_MAX) return hasTwinsAmongMany(bytes, first, last)
  for (let one = first + 1; one < last; one++)
    for (let other = first; other < one; other++) if (areTwins(bytes, one, other)) return true
  return false
}

const areTwins = (bytes: Uint8Array, one: number, other: number): boolean => {
  const end = keyEnd[one]!
  const start = keyStart[one]!
  const shift = keyStart[other]! - start
  if (keyEnd[other]! - end !== shift) return false
  // From the end: names of one length often begin alike.
  for (let at = end - 1; at >= start; at--) if (bytes[at] !== bytes[at + shift]) return false
  return true
}

/**
 * Open addressing. A place holds the number of a key within its map, below the generation that put it there: those of an earlier one
 * are free. At most half of the places are taken, and the average search ends after one and a half.
 */
const places = new Uint32Array(2 * KEYS_MAX)
const NUMBER_BITS = Math.log2(KEYS_MAX)
const GENERATIONS = 1 << (32 - NUMBER_BITS)
let generation = 0
/** Searches of a map may take so many steps a key. */
const STEPS_PER_KEY_MAX = 8

const hasTwinsAmongMany = (bytes: Uint8Array, first: number, last: number): boolean => {
  if (++generation === GENERATIONS) {
    places.fill(0)
    generation = 1
  }
  const mask = 2 ** Math.ceil(Math.log2(2 * (last - first))) - 1
  let steps = STEPS_PER_KEY_MAX * (last - first)
  for (let key = first; key < last; key++) {
    let place = hashOf(bytes, keyStart[key]!, keyEnd[key]!) & mask
    while (places[place]! >>> NUMBER_BITS === generation) {
      const other = first + (places[place]! & (KEYS_MAX - 1))
      if (--steps < 0 || areTwins(bytes, key, other)) return true
      place = (place + 1) & mask
    }
    places[place] = (generation << NUMBER_BITS) | (key - first)
  }
  return false
}

/** FNV-1a, spread by the finalizer of MurmurHash3. */
const hashOf = (bytes: Uint8Array, start: number, end: number): number => {
  let hash = 0x811c9dc5
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
