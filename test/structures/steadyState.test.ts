import { expect, test } from "bun:test"
import { join } from "node:path"
import { COMPILED } from "./support/placeOften.ts"

/** How often the collector ran because memory was allocated while many batches were placed. */
const collections = (...flags: ReadonlyArray<string>): number => {
  const { stderr, exitCode } = Bun.spawnSync(
    [process.execPath, join(import.meta.dir, "support/placeOften.ts"), ...flags],
    { env: { BUN_JSC_logGC: "1" } }
  )
  expect(exitCode).toBe(0)
  const [, steady = ""] = stderr.toString().split(`${COMPILED}\n`)
  return steady.split("Requesting GC").length - 1
}

test("placing a batch allocates nothing, whatever its form", () => {
  expect(collections()).toBe(0)
})

test("an allocation for each batch shows", () => {
  expect(collections("--copy")).toBeGreaterThan(0)
})
