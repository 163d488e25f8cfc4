import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Unpackr } from "msgpackr"
import { pack, unpack } from "../../src/protocol/Codec.ts"
import { DEPTH_MAX, scan, scanned, ScanFault } from "../../src/protocol/Scan.ts"
import { holds } from "../support/arbitraries.ts"
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

/** A map of keys as they are, to values that are msgpack already; str8 instead of fixstr where `wide` says so. */
const mapOf = (
  pairs: ReadonlyArray<{ readonly key: Buffer; readonly wide: boolean; readonly value: Buffer }>
) =>
  Buffer.concat([
    Buffer.from([0xde, pairs.length >>> 8, pairs.length & 0xff]),
    ...pairs.flatMap(({ key, wide, value }) => [
      wide || key.length > 31 ? Buffer.from([0xd9, key.length]) : Buffer.from([0xa0 | key.length]),
      key,
      value
    ])
  ])
const flat = (keys: ReadonlyArray<string>) =>
  mapOf(keys.map((key) => ({ key: Buffer.from(key), wide: false, value: Buffer.from([0xc0]) })))

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
        expect(scanned).toMatchObject({ nodes, keys })
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

describe("a key twice in a map", () => {
  /** Keys that often begin or end alike, are equal, or are of one length. */
  const key = fc
    .array(fc.constantFrom("a", "b", "\u{e9}", "prefix-"), { maxLength: 3 })
    .map((parts) => Buffer.from(parts.join("")))
  interface Drawn {
    readonly bytes: Buffer
    readonly twins: boolean
  }
  const { value } = fc.letrec<{ value: Drawn; map: Drawn; array: Drawn }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.constant({ bytes: Buffer.from([0xc0]), twins: false }),
      tie("map"),
      tie("array")
    ),
    map: fc
      .array(fc.record({ key, wide: fc.boolean(), value: tie("value") }), { maxLength: 14 })
      .map((pairs) => ({
        bytes: mapOf(pairs.map((pair) => ({ ...pair, value: pair.value.bytes }))),
        twins:
          new Set(pairs.map((pair) => pair.key.toString("hex"))).size < pairs.length ||
          pairs.some((pair) => pair.value.twins)
      })),
    array: fc.array(tie("value"), { maxLength: 5 }).map((items) => ({
      bytes: Buffer.concat([Buffer.from([0x90 | items.length]), ...items.map(({ bytes }) => bytes)]),
      twins: items.some(({ twins }) => twins)
    }))
  }))

  test("is refused wherever it stands and however it is written, and nothing else is", () => {
    let refused = 0
    holds(
      fc.property(value, ({ bytes, twins }) => {
        if (twins) refused++
        expect(scanAll(bytes)).toBe(twins ? ScanFault.twins : bytes.length)
      })
    )
    expect(refused).toBeGreaterThan(100)
  })

  const MANY = 32_767
  test.each([
    ["numbered", (i: number) => `k${i}`],
    ["decimal", (i: number) => String(i)],
    ["hexadecimal", (i: number) => (i * 40_503).toString(16)],
    ["with one beginning", (i: number) => `${"x".repeat(20)}${i}`],
    ["with one end", (i: number) => `${i}${"x".repeat(20)}`],
    ["of all lengths", (i: number) => "ab"[i & 1]!.repeat(i >> 8) + String.fromCharCode(33 + (i & 0x7f))]
  ])("is found among 32,767 keys that are %s, and not seen where there is none", (_, name) => {
    const keys = [...new Set(Array.from({ length: MANY }, (__, i) => name(i).slice(0, 200)))]
    const whole = flat(keys)
    // More rounds than the table keeps apart.
    for (let round = 0; round < 3; round++) expect(scanAll(whole)).toBe(whole.length)
    for (const [one, other] of [
      [0, keys.length - 1],
      [keys.length - 2, keys.length - 1],
      [7, 9000 % keys.length]
    ] as const) {
      const twins = [...keys]
      twins[other] = keys[one]!
      expect(scanAll(flat(twins))).toBe(ScanFault.twins)
    }
  })

  test("maps that share a table never mix, however many there were", () => {
    const [one, other] = ["a", "b"].map((name) => flat(Array.from({ length: 9 }, (_, i) => `${name}${i}`)))
    // The table numbers its maps from 1 to 2¹⁷ − 1, and then again.
    expect(scanAll(one!)).toBe(one!.length)
    for (let round = 1; round < 2 ** 17 - 1; round++)
      if (scanAll(other!) !== other!.length) throw new Error(`round ${round}: keys of another map were seen`)
    expect(scanAll(one!)).toBe(one!.length)
  })

  test("keys chosen to fall into one place are refused in time linear in their number", () => {
    /** FNV-1a, as the table uses it. */
    const after = (state: number, text: string): number => {
      let hash = state
      for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
      return hash
    }
    // Two texts that lead from one state to the same next one, ten times: 2¹⁰ keys with one hash.
    let keys = [""]
    let state = 0x811c9dc5 | 0
    while (keys.length < 1024) {
      const seen = new Map<number, string>()
      for (let i = 0; ; i++) {
        const text = (Math.imul(i, 0x9e3779b1) >>> 0).toString(36)
        const next = after(state, text)
        const twin = seen.get(next)
        seen.set(next, text)
        if (twin === undefined) continue
        keys = keys.flatMap((head) => [head + twin, head + text])
        state = next
        break
      }
    }
    expect(new Set(keys).size).toBe(1024)
    let reads = 0
    const bytes = flat(keys)
    const counted = new Proxy(bytes, {
      get: (target, at) => {
        reads++
        return Reflect.get(target, at) as unknown
      }
    })
    expect(scan(counted, 0, bytes.length, 16, 65_536)).toBe(ScanFault.twins)
    // Each with each would be 500,000 comparisons of up to 50 bytes.
    expect(reads).toBeLessThan(bytes.length * 20)
    expect(scanAll(flat(keys.slice(0, 9)))).toBeGreaterThan(0)
  })
})

test("the values of all scans are counted, those of a refused one up to where it stopped", () => {
  const before = scanned.total
  scanAll(pack({ a: [1, 2] }))
  scanAll(nest(40))
  scanAll(Buffer.concat([Buffer.from([0xdc, 0, 200]), Buffer.alloc(200)]), 16, 100)
  expect(scanned.total - before).toBe(5 + 33 + 101)
})
