import { expect, test } from "bun:test"
import { TenantDeficits } from "../../src/policies/TenantDeficits.ts"

test("after more rounds than can be counted nobody waits for the next one for ever", () => {
  const deficits = new TenantDeficits(1, (a, b) => a < b)
  deficits.know(0, 1)
  deficits.stand(0, true)
  for (const cost of [2 ** 52, 2 ** 52, 2 ** 52, 2 ** 52, 2, 3, 4, 5]) {
    expect(deficits.first()).toBe(0)
    deficits.spend(0, cost)
  }
  expect(deficits.first()).toBe(0)
})
