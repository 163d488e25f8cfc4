import { describe, test } from "bun:test"
import { admissions } from "../../src/policies/registry.ts"
import { admissionLaws } from "./admissionLaws.ts"

describe.each(admissions.map((entry) => [entry.name, entry] as const))("admission %s", (_, entry) => {
  test.each(admissionLaws.map((law) => [law.id, law] as const))("%s", (_id, law) => law.check(entry))
})
