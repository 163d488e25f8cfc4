import { describe, expect, test } from "bun:test"
import { placements } from "../../src/policies/registry.ts"
import { placementLaws } from "./placementLaws.ts"

describe.each(placements.map((entry) => [entry.name, entry] as const))("placement %s", (_, entry) => {
  const laws = placementLaws.filter(({ families }) => families?.includes(entry.family) ?? true)
  test.each(laws.map((law) => [law.id, law] as const))("%s", (_id, law) => law.check(entry))
})

test("every law speaks of some policy of the registry", () => {
  const families = new Set(placements.map(({ family }) => family))
  for (const { families: named = [...families] } of placementLaws)
    expect(named.some((family) => families.has(family))).toBe(true)
})
