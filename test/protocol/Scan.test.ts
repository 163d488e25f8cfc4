import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Unpackr } from "msgpackr"
import { pack, unpack } from "../../src/protocol/Codec.ts"
import { DEPTH_MAX, scan, scanned, ScanFault } from "../../src/protocol/Scan.ts"
import { plainValue } from "./support/frames.ts"

const decoder = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "number" })
const roomy = { depth: DEPTH_MAX, nodes: 1 << 20 }
const scanAll = (bytes: Uint8Array, depth = roomy.depth, nodes = roomy.nodes): number =>
  scan(bytes, 0, bytes.length, depth, nodes)

interface Count {
  readonly nodes: number
  readonly keys: number
  readonly depth: number
}
const sum = (children: ReadonlyArray<Count>, keys: number): Count => ({
  nodes: 1 + keys + children.reduce((total, child) => total + child.nodes, 0),
  keys: keys + children.reduce((total, child) => total + child.keys, 0),
  depth: 1 + Math.max(0, ...children.map(({ depth }) => depth))
})
/** The same numbers, counted on the value itself. */
const count = (value: unknown): Count => {
  if (Array.isArray(value)) return sum(value.map(count), 0)
  if (typeof value === "object" && value !== null && !Buffer.isBuffer(value)) {
    const children = Object.values(value)
    return sum(children.map(count), children.length)
  }
  return { nodes: 1, keys: 0, depth: 0 }
}

/** An array of nothing but an array of nothing but … `depth` deep. */
const nest = (depth: number): Buffer => Buffer.concat([Buffer.alloc(depth - 1, 0x91), Buffer.from([0x90])])

describe("what the encoder writes", () => {
  test("is accepted, up to its last byte, and counted", () => {
    fc.assert(
      fc.property(plainValue, fc.nat(20), (value, before) => {
        const bytes = Buffer.concat([Buffer.alloc(before, 0xc1), pack(value), Buffer.alloc(3, 0xc1)])
        const end = bytes.length - 3
        expect(scan(bytes, before, bytes.length, roomy.depth, roomy.nodes)).toBe(end)
        const { nodes, keys } = count(value)
        expect(scanned).toEqual({ nodes, keys })
      }),
      { numRuns: 500 }
    )
  })

  test("is refused one node and one level below what it needs, and at every cut", () => {
    fc.assert(
      fc.property(plainValue, fc.nat(), (value, at) => {
        const bytes = pack(value)
        const { nodes, depth } = count(value)
        expect(scanAll(bytes, depth, nodes)).toBe(bytes.length)
        expect(scanAll(bytes, roomy.depth, nodes - 1)).toBe(ScanFault.nodes)
        if (depth > 0) expect(scanAll(bytes, depth - 1)).toBe(ScanFault.depth)
        const cut = at % bytes.length
        expect(scan(bytes, 0, cut, roomy.depth, roomy.nodes)).toBe(ScanFault.truncated)
      }),
      { numRuns: 500 }
    )
  })
})

describe("random bytes", () => {
  /** Random, but rich in marks, and short lengths. */
  const noise = fc.array(fc.oneof(fc.nat(0xff), fc.integer({ min: 0x80, max: 0xdf }), fc.nat(6)), {
    maxLength: 40
  })

  test("what the scan accepts, the decoder unpacks, and to the same end", () => {
    let accepted = 0
    fc.assert(
      fc.property(noise, (numbers) => {
        const bytes = Buffer.from(numbers)
        const end = scanAll(bytes)
        if (end < 0) return
        accepted++
        // Throws when it does not end there.
        decoder.unpack(bytes.subarray(0, end))
      }),
      { numRuns: 20_000 }
    )
    expect(accepted).toBeGreaterThan(5000)
  })

  test("unpack gives a plain value or undefined; it never throws", () => {
    const isPlain = (value: unknown): boolean => {
      if (value === null || ["boolean", "number", "string"].includes(typeof value)) return true
      if (Array.isArray(value)) return value.every(isPlain)
      if (Buffer.isBuffer(value)) return true
      return (
        typeof value === "object" &&
        Object.getPrototypeOf(value) === Object.prototype &&
        Object.values(value).every(isPlain)
      )
    }
    fc.assert(
      fc.property(noise, (numbers) => {
        const bytes = Buffer.from(numbers)
        const value = unpack(bytes, 0, bytes.length, roomy)
        expect(value === undefined || isPlain(value)).toBe(true)
      }),
      { numRuns: 20_000 }
    )
  })
})

describe("what is refused", () => {
  const extensions = [0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8]

  test.each(extensions)("mark 0x%s, wherever it stands", (mark) => {
    const bomb = Buffer.concat([Buffer.from([mark]), Buffer.alloc(20)])
    expect(scanAll(bomb)).toBe(ScanFault.forbidden)
    expect(scanAll(Buffer.concat([Buffer.from([0x92, 0x01]), bomb]))).toBe(ScanFault.forbidden)
    expect(scanAll(Buffer.concat([Buffer.from([0x81, 0xa1, 0x61]), bomb]))).toBe(ScanFault.forbidden)
    expect(scanAll(Buffer.concat([Buffer.from([0x81]), bomb]))).toBe(ScanFault.key)
  })

  test.each([
    ["array32", [0xdd, 0xff, 0xff, 0xff, 0xff], ScanFault.truncated],
    ["map32", [0xdf, 0xff, 0xff, 0xff, 0xff], ScanFault.truncated],
    ["str32", [0xdb, 0xff, 0xff, 0xff, 0xff], ScanFault.truncated],
    ["bin32", [0xc6, 0xff, 0xff, 0xff, 0xff], ScanFault.truncated],
    [
      "a chain of array16",
      Array.from({ length: 99_000 }, (_, i) => (i % 3 === 0 ? 0xdc : 0xff)),
      ScanFault.depth
    ]
  ])("a length bomb: %s", (_, bytes, fault) => {
    expect(scanAll(Buffer.from(bytes))).toBe(fault)
  })

  test.each([17, 10_000, 1_000_000])("depth %i", (depth) => {
    expect(scanAll(nest(depth), 16)).toBe(ScanFault.depth)
  })

  test("depth beyond what the scan can count, whatever is asked for", () => {
    expect(scanAll(nest(DEPTH_MAX), 1000)).toBe(DEPTH_MAX)
    expect(scanAll(nest(DEPTH_MAX + 1), 1000)).toBe(ScanFault.depth)
  })

  test.each([
    ["arrays", 0x90],
    ["maps", 0x80],
    ["nils", 0xc0]
  ])("a million empty %s", (_, mark) => {
    const bytes = Buffer.concat([Buffer.from([0xdd, 0, 0x0f, 0x42, 0x40]), Buffer.alloc(1_000_000, mark)])
    expect(scanAll(bytes, 16, 65_536)).toBe(ScanFault.nodes)
  })

  test.each([
    ["an integer", [0x01]],
    ["nil", [0xc0]],
    ["bytes", [0xc4, 0x00]],
    ["a float", [0xca, 0, 0, 0, 0]],
    ["an array", [0x90]],
    ["a map", [0x80]]
  ])("a key that is %s", (_, key) => {
    expect(scanAll(Buffer.from([0x81, ...key, 0x01]))).toBe(ScanFault.key)
    expect(scanAll(Buffer.from([0x82, 0xa1, 0x61, 0x01, ...key, 0x01]))).toBe(ScanFault.key)
  })
})
