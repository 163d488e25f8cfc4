import { describe, test } from "bun:test"
import { orderings } from "../../src/policies/registry.ts"
import { orderingLaws } from "./orderingLaws.ts"

describe.each(orderings.map((entry) => [entry.name, entry] as const))("ordering %s", (_, entry) => {
  test.each(orderingLaws.map((law) => [law.id, law] as const))("%s", (_id, law) => law.check(entry))
})
