import { describe } from "bun:test"
import { admissions } from "../../src/policies/registry.ts"
import { keepsAll } from "../support/planted.ts"
import { admissionLaws, tightest } from "./admissionLaws.ts"

describe.each(admissions.map((entry) => [entry.name, entry] as const))("admission %s", (_, entry) => {
  keepsAll(admissionLaws, entry)
  if (Object.keys(entry.options).length > 0)
    describe("with all options at their minimum", () => keepsAll(admissionLaws, tightest(entry)))
})
