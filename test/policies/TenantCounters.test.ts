import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { TenantCounters } from "../../src/policies/TenantCounters.ts"
import { holds } from "../support/arbitraries.ts"

test("the first is the waiting tenant with the least counter, of equal ones the one whose counter moved longest ago", () => {
  const tenants = new TenantCounters()
  for (const tenant of [5, 3, 9]) tenants.join(tenant, 0)
  const order: Array<number> = []
  for (let i = 0; i < 6; i++) {
    order.push(tenants.first())
    tenants.add(tenants.first(), 1)
  }
  expect(order).toEqual([5, 3, 9, 5, 3, 9])
})

test("a tenant that begins to wait has what it had, or the least given, and none that waits is raised", () => {
  const tenants = new TenantCounters()
  tenants.join(1, 0)
  tenants.add(1, 10)
  tenants.join(1, 50)
  expect(tenants.at(1)).toBe(10)
  tenants.join(2, tenants.least())
  expect(tenants.at(2)).toBe(10)
  tenants.add(2, 5)
  tenants.leave(1)
  tenants.leave(2)
  expect(tenants.least()).toBe(15)
  tenants.join(2, 3)
  expect(tenants.at(2)).toBe(15)
})

test("to pass is to join at the least counter and to leave at once", () => {
  const change = fc.record({
    kind: fc.constantFrom("join", "leave", "add", "pass"),
    tenant: fc.nat(4),
    amount: fc.nat(3)
  })
  holds(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const [passing, leaving] = [new TenantCounters(), new TenantCounters()]
      const waiting = new Set<number>()
      for (const { kind, tenant, amount } of changes) {
        if (kind === "join") waiting.add(tenant)
        if (kind === "leave") waiting.delete(tenant)
        if (kind === "pass" && !waiting.has(tenant)) {
          passing.pass(tenant)
          leaving.join(tenant, leaving.least())
          leaving.leave(tenant)
        }
        for (const tenants of [passing, leaving]) {
          if (kind === "join") tenants.join(tenant, tenants.least())
          if (kind === "leave") tenants.leave(tenant)
          if (kind === "add") tenants.add(tenant, amount)
        }
        expect([passing.first(), passing.least(), passing.at(tenant)]).toEqual([
          leaving.first(),
          leaving.least(),
          leaving.at(tenant)
        ])
      }
    })
  )
})

test("rebasing keeps differences exactly, and leaves the least of those that wait below 2²⁰", () => {
  const exact = fc.integer({ min: 0, max: 2 ** 22 }).map((sixteenths) => sixteenths / 16)
  holds(
    fc.property(fc.array(exact, { minLength: 1, maxLength: 6 }), exact, (counters, idle) => {
      const tenants = new TenantCounters()
      for (const [tenant, counter] of counters.entries()) tenants.join(tenant, counter * 8)
      tenants.add(100, idle)
      const down = tenants.rebase()
      const least = Math.min(...counters) * 8
      expect(down).toBe(least - (least % 2 ** 20))
      for (const [tenant, counter] of counters.entries()) expect(tenants.at(tenant)).toBe(counter * 8 - down)
      expect(tenants.at(100)).toBe(idle - down)
      expect(tenants.least()).toBe(least - down)
    })
  )
})
