import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { gate } from "../../src/protocol/credentials.ts"
import { roles } from "../../src/protocol/Roles.ts"

describe("gate", () => {
  test("admits exactly the secrets of the role", () => {
    const text = fc.string({ maxLength: 20 })
    const secrets = fc.array(text, { minLength: 1, maxLength: 3 })
    fc.assert(
      fc.property(
        secrets,
        fc.option(text, { nil: undefined }),
        fc.constantFrom(...roles),
        (wanted, presented, role) => {
          const admits = gate({ [role]: wanted })
          for (const secret of wanted) expect(admits(role, secret)).toBe(true)
          expect(admits(role, presented)).toBe(wanted.some((secret) => secret === presented))
        }
      )
    )
  })

  test("near misses are refused", () => {
    const admits = gate({ worker: ["correct horse"] })
    for (const guess of [
      "",
      "correct hors",
      "correct horse ",
      "Correct horse",
      "correct\0horse",
      undefined
    ]) {
      expect(admits("worker", guess)).toBe(false)
    }
  })

  test("a role without a secret is open, and one secret opens one role", () => {
    const admits = gate({ worker: ["w"], admin: ["a"], client: [] })
    expect(roles.filter((role) => admits(role, undefined))).toEqual(["client", "balancer"])
    expect([admits("worker", "a"), admits("admin", "w")]).toEqual([false, false])
  })

  test("an empty secret does not admit who presents none", () => {
    expect(gate({ admin: [""] })("admin", undefined)).toBe(false)
  })
})
