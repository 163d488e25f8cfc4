import { describe, expect, test } from "bun:test"
import { placements } from "../../src/policies/registry.ts"
import { lawsOf, placementLaws } from "./placementLaws.ts"

describe.each(placements.map((entry) => [entry.name, entry] as const))("placement %s", (_, entry) => {
  test.each(lawsOf(entry).map((law) => [law.id, law] as const))("%s", (_id, law) => law.check(entry))
})

test("every law speaks of some policy of the registry", () => {
  const kept = new Set(placements.flatMap(lawsOf))
  expect(placementLaws.filter((law) => !kept.has(law))).toEqual([])
})
