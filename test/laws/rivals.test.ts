import { describe, test } from "bun:test"
import { rivals } from "../../src/policies/registry.ts"
import { lawsOf } from "./placementLaws.ts"

describe.each(rivals.map((entry) => [entry.name, entry] as const))("rival %s", (_, entry) => {
  test.each(lawsOf(entry).map((law) => [law.id, law] as const))("%s", (_id, law) => law.check(entry))
})
