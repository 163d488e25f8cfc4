import { hasTwins, keyEnd, KEYS_MAX, keyStart } from "./MapKeys.ts"

/** Why a scan refused a value. */
export const ScanFault = {
  nodes: -2,
  truncated: -3,
  /** An extension type, or the byte 0xc1. */
  forbidden: -4,
  depth: -5,
  /** A map key that is not a string. */
  key: -6,
  /** A key twice in a map, byte by byte. */
  twins: -7
} as const

/** Deepest nesting and most values any scan accepts, whatever it is asked for. */
export const DEPTH_MAX = 32
export const NODES_MAX = 2 * KEYS_MAX
/** Of the levels above the one being walked: children still to come, whether they are keys and values in turn, and the first key noted. */
const left = new Uint32Array(DEPTH_MAX + 1)
const isMap = new Uint8Array(DEPTH_MAX + 1)
const firstKey = new Uint32Array(DEPTH_MAX + 1)

/** Values and map keys (which are values too) in what the last accepted scan walked, and values in what all scans walked. Reused. */
export const scanned = { nodes: 0, keys: 0, total: 0 }

const refuse = (fault: number, seen: number): number => {
  scanned.total += seen
  return fault
}

/**
 * Walks one msgpack value from `bytes[from]` without unpacking it. Returns the offset after it (so a caller that expects exactly one
 * value compares it with the end), or a negative `ScanFault`.
 *
 * Refuses what the decoder would accept at a price: extension types, 0xc1, keys that are not strings, a key twice in a map, more than
 * `nodes` values (at most 131,072), nesting deeper than `depth` (at most 32), lengths beyond `to`. Allocates nothing. Cost about 4 ns a
 * value, whatever its length, and for the keys of a map what `hasTwins` takes.
 */
export const scan = (bytes: Uint8Array, from: number, to: number, depth: number, nodes: number): number => {
  const deepest = Math.min(depth, DEPTH_MAX)
  const most = Math.min(nodes, NODES_MAX)
  let at = from
  let level = 0
  let seen = 0
  let keys = 0
  /** Keys noted: those of the maps that are not over yet. */
  let noted = 0
  // Of the level being walked. In a map a key comes when the count is even.
  let more = 1
  let map = 0
  let first = 0
  while (true) {
    while (more === 0) {
      if (noted - first > 1 && hasTwins(bytes, first, noted)) return refuse(ScanFault.twins, seen)
      noted = first
      if (level === 0) {
        scanned.nodes = seen
        scanned.keys = keys
        scanned.total += seen
        return at
      }
      more = left[--level]!
      map = isMap[level]!
      first = firstKey[level]!
    }
    const isKey = map === 1 && (more & 1) === 0
    more--
    if (++seen > most) return refuse(ScanFault.nodes, seen)
    if (at >= to) return refuse(ScanFault.truncated, seen)
    const mark = bytes[at++]!
    if (isKey) {
      if (!isString(mark)) return refuse(ScanFault.key, seen)
      keys++
    }
    if (mark < 0x80 || mark >= 0xe0 || mark === 0xc0 || mark === 0xc2 || mark === 0xc3) continue
    // Bytes to skip, or children to visit.
    let skip = 0
    let children = -1
    let pairs = false
    if (mark < 0x90) {
      children = mark & 15
      pairs = true
    } else if (mark < 0xa0) children = mark & 15
    else if (mark < 0xc0) skip = mark & 31
    else {
      const size = SIZE_BYTES[mark - 0xc0]!
      if (size === 0) return refuse(ScanFault.forbidden, seen)
      if (mark >= 0xca && mark <= 0xd3) skip = size
      else {
        if (at + size > to) return refuse(ScanFault.truncated, seen)
        let length = 0
        for (let i = 0; i < size; i++) length = length * 256 + bytes[at++]!
        if (mark < 0xdc) skip = length
        else {
          children = length
          pairs = mark >= 0xde
        }
      }
    }
    if (children < 0) {
      if (skip > to - at) return refuse(ScanFault.truncated, seen)
      if (isKey) {
        keyStart[noted] = at
        keyEnd[noted++] = at + skip
      }
      at += skip
    } else {
      const values = pairs ? children * 2 : children
      if (values > to - at) return refuse(ScanFault.truncated, seen)
      if (level === deepest) return refuse(ScanFault.depth, seen)
      left[level] = more
      firstKey[level] = first
      isMap[level++] = map
      more = values
      map = pairs ? 1 : 0
      first = noted
    }
  }
}

const isString = (mark: number): boolean => (mark >= 0xa0 && mark < 0xc0) || (mark >= 0xd9 && mark <= 0xdb)

/** For marks 0xc0–0xdf: bytes of the number itself, or of the length that follows; 0 for what is refused. */
const SIZE_BYTES = new Uint8Array(32)
const sizes: ReadonlyArray<readonly [firstMark: number, ...bytes: ReadonlyArray<number>]> = [
  [0xc4, 1, 2, 4], // bin
  [0xca, 4, 8], // float
  [0xcc, 1, 2, 4, 8], // uint
  [0xd0, 1, 2, 4, 8], // int
  [0xd9, 1, 2, 4], // str
  [0xdc, 2, 4], // array
  [0xde, 2, 4] // map
]
for (const [firstMark, ...bytes] of sizes) SIZE_BYTES.set(bytes, firstMark - 0xc0)
