import { describe, expect, test } from "bun:test"
import { batchings, findBatching } from "../../src/policies/registry.ts"
import type { Batching } from "../../src/policies/Batching.ts"
import { findsAll, type Planted } from "../support/planted.ts"
import { batchingLaws, type BatchingSubject, steadySizes } from "./batchingLaws.ts"

const defaultOf = (option: { readonly default: unknown } | undefined, otherwise: number): number =>
  typeof option?.default === "number" ? option.default : otherwise

const subjectOf = (name: string): BatchingSubject => {
  const entry = findBatching(name)
  return {
    make: (options, rng) => entry.make(options, rng),
    delayMs: defaultOf(entry.options["delay"], 0),
    sizeMax: defaultOf(entry.options["size"], 1)
  }
}

describe.each(batchings.map(({ name }) => [name] as const))("batching %s", (name) => {
  test.each(batchingLaws.map((law) => [law.id, law] as const))("%s", (_id, law) => law.check(subjectOf(name)))
})

describe("adaptive batches", () => {
  const adaptive = subjectOf("adaptive")

  test("grow under a high load that is served in time", () => {
    const sizes = steadySizes(adaptive, 0.5, 100)
    // As many as come within the delay, and a tenth less after each batch that it closed.
    expect(sizes.reduce((sum, size) => sum + size, 0) / sizes.length).toBeGreaterThan(35)
  })
  test("shrink to single requests where few come", () => {
    for (const size of steadySizes(adaptive, 100, 100)) expect(size).toBe(1)
  })
  test("shrink to single requests while the target is missed", () => {
    expect(Math.max(...steadySizes(adaptive, 0.5, 2000))).toBe(1)
  })
})

/** A window over plain variables; a defect replaces one of its operations. */
const planted = (defect: Partial<Batching>): BatchingSubject => ({
  make: () => ({
    closesAtMs: ({ count, idle, sinceMs }, nowMs) => (count >= 8 || idle ? nowMs : sinceMs + 10),
    sizeMax: () => 8,
    ...defect
  }),
  delayMs: 10,
  sizeMax: 8
})

let shared = 0

const defects = (
  [
    ["takes all that waits", "batching-bounded", { sizeMax: () => 1000 }],
    ["takes one request more than the largest batch", "batching-bounded", { sizeMax: () => 9 }],
    ["closes an empty batch", "batching-bounded", { sizeMax: () => 0 }],
    [
      "starts the delay anew with every look",
      "batching-bounded",
      { closesAtMs: ({ count }, nowMs) => (count >= 8 ? nowMs : nowMs + 10) }
    ],
    [
      "waits for a full batch for ever",
      "batching-bounded",
      { closesAtMs: ({ count }, nowMs) => (count >= 8 ? nowMs : Infinity) }
    ],
    [
      "makes an idle worker wait",
      "batching-idle",
      { closesAtMs: ({ count, sinceMs }, nowMs) => (count >= 8 ? nowMs : sinceMs + 10) }
    ],
    ["counts in a variable of the module", "batching-deterministic", { sizeMax: () => 1 + (shared++ % 7) }]
  ] satisfies ReadonlyArray<Planted<Partial<Batching>>>
).map(([defect, law, part]): Planted<BatchingSubject> => [defect, law, planted(part)])

describe("planted batching defects", () => {
  findsAll(batchingLaws, defects)

  test("the batching that defects are planted in is right", () => {
    for (const law of batchingLaws) law.check(planted({}))
  })
})
