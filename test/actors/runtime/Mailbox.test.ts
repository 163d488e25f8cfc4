import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Mailbox } from "../../../src/actors/runtime/Mailbox.ts"

describe("mailbox", () => {
  test("is a bounded queue: same answers as an array of at most `capacity`", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.array(fc.option(fc.integer()), { maxLength: 400, size: "max" }),
        (capacity, steps) => {
          const mailbox = new Mailbox<number>(capacity)
          const model: Array<number> = []
          for (const step of steps) {
            if (step === null) {
              if (model.length > 0) expect(mailbox.take()).toBe(model.shift()!)
            } else {
              expect(mailbox.offer(step)).toBe(model.length < capacity)
              if (model.length < capacity) model.push(step)
            }
            expect(mailbox.size).toBe(model.length)
          }
        }
      )
    )
  })
})
