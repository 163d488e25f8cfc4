import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import type { Token } from "../../src/client/Generation.ts"
import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import { Type } from "../../src/protocol/Header.ts"
import { FIRST_CREDIT, FIRST_CREDIT_BYTES } from "../../src/protocol/Limits.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { virtualClient } from "./support/virtualClient.ts"

const setup = () => {
  const virtual = virtualClient()
  const generation = virtual.client.generate({ prompt: "hello", maxTokens: 1_000 })
  virtual.world.settle()
  return { ...virtual, generation, received: virtual.balancer.requests[0]! }
}

const long = "x".repeat(8_000)
const FRAME_BYTES = encodeFrame(Type.token, {}, { payload: pack(long) }).length

describe("Generation", () => {
  test("yields every token, then stops; ended and admitted say the rest", async () => {
    const { world, balancer, generation, received } = setup()
    expect(received.id).toBe(generation.id)
    balancer.answer(received, ["a", "b", "c"])
    world.settle()
    const tokens: Array<Token> = []
    for await (const token of generation) tokens.push(token)
    expect(tokens).toEqual(["a", "b", "c"].map((text, index) => ({ index, text, count: 1 })))
    expect(await generation.admitted).toBe(true)
    expect(await generation.ended).toMatchObject({ outcome: "done", tokens: 3 })
    expect(await generation.next()).toEqual({ done: true, value: undefined })
  })

  test("hands a token to a reader that waits for it", async () => {
    const { world, balancer, generation, received } = setup()
    const first = generation.next()
    balancer.accept(received)
    balancer.token(received, "a")
    world.settle()
    expect(await first).toEqual({ done: false, value: { index: 0, text: "a", count: 1 } })
    const second = generation.next()
    balancer.done(received)
    world.settle()
    expect(await second).toEqual({ done: true, value: undefined })
  })

  test("ends without throwing when the request does not end well, and keeps what came before", async () => {
    const { world, balancer, generation, received } = setup()
    balancer.accept(received)
    balancer.token(received, "a")
    balancer.error(received, Reason.workerLost)
    world.settle()
    const { text, ending } = await generation.collect()
    expect(text).toBe("a")
    expect(ending).toMatchObject({ outcome: "error", reason: "worker_lost", delivered: 1 })
  })

  test("a rejection was never admitted", async () => {
    const { world, balancer, generation, received } = setup()
    balancer.reject(received, Reason.draining, 100)
    world.settle()
    expect(await generation.admitted).toBe(false)
    expect(await generation.collect()).toMatchObject({
      text: "",
      ending: { outcome: "rejected", reason: "draining" }
    })
  })

  test("leaving the loop early cancels", async () => {
    const { world, balancer, generation, received } = setup()
    balancer.accept(received)
    for (const text of ["a", "b", "c"]) balancer.token(received, text)
    world.settle()
    for await (const token of generation) if (token.index === 1) break
    world.settle()
    expect(received.cancels).toBe(1)
    balancer.error(received, Reason.cancelled)
    world.settle()
    expect((await generation.ended).outcome).toBe("cancelled")
    expect(await generation.next()).toEqual({ done: true, value: undefined })
  })

  test("a second reader is told what to do, and the first one reads on", async () => {
    const { world, balancer, generation, received } = setup()
    const first = generation.next()
    expect(generation.collect()).rejects.toThrow(
      new TypeError("an answer has one reader: ask for the next token when the one before has come")
    )
    balancer.answer(received, ["a"])
    world.settle()
    expect(await first).toMatchObject({ value: { text: "a" } })
    expect(await generation.ended).toMatchObject({ outcome: "done" })
    expect(received.cancels).toBe(0)
  })

  test("cancel ends a read that waits", async () => {
    const { generation } = setup()
    const read = generation.next()
    generation.cancel()
    expect(await read).toEqual({ done: true, value: undefined })
  })

  test("so does its signal, in time or too early, and what was not read is gone", async () => {
    const { world, client, balancer } = virtualClient()
    const abort = new AbortController()
    const start = () => client.generate({ prompt: "hello", maxTokens: 9, signal: abort.signal })
    const [waiting, behind] = [start(), start()]
    const read = waiting.next()
    world.settle()
    balancer.token(balancer.requests[1]!)
    world.settle()
    abort.abort()
    expect(await read).toEqual({ done: true, value: undefined })
    expect(await behind.next()).toEqual({ done: true, value: undefined })
    const late = start()
    expect(await late.next()).toEqual({ done: true, value: undefined })
    expect(await late.ended).toMatchObject({ outcome: "cancelled" })
    world.settle()
    expect(balancer.requests.map(({ cancels }) => cancels)).toEqual([1, 1])
  })

  test("a reader gets all tokens in order however it reads, and the worker is never more than a window ahead", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ send: fc.nat(300), read: fc.nat(300) }), { maxLength: 12 }),
        async (steps) => {
          const { world, balancer, client, generation, received } = setup()
          balancer.accept(received)
          const credit = () => Math.max(FIRST_CREDIT, ...received.credits)
          let read = 0
          const readOne = async () => {
            expect(await generation.next()).toEqual({
              done: false,
              value: { index: read, text: String(read), count: 1 }
            })
            read++
          }
          for (const step of steps) {
            for (let i = 0; i < step.send && received.sent < credit(); i++)
              balancer.token(received, String(received.sent))
            world.settle()
            for (let i = 0; i < step.read && read < received.sent; i++) await readOne()
            world.settle()
            expect(credit() - read).toBeLessThanOrEqual(FIRST_CREDIT)
            expect(credit() - read).toBeGreaterThan(FIRST_CREDIT / 2)
          }
          balancer.done(received)
          world.settle()
          while (read < received.sent) await readOne()
          expect(await generation.next()).toEqual({ done: true, value: undefined })
          expect(client.protocolViolations).toBe(0)
          expect(received.credits).toEqual([...new Set(received.credits)].toSorted((a, b) => a - b))
        }
      ),
      { numRuns: 25 }
    )
  })

  test("long tokens are paced by their bytes: the reader grants 32 KiB at a time, of what it has read", async () => {
    const { world, balancer, client, generation, received } = setup()
    balancer.accept(received)
    for (let i = 0; i < 8; i++) balancer.token(received, long)
    world.settle()
    expect(received.creditsBytes).toEqual([])
    const grants: Array<number> = []
    for (let read = 1; read <= 40; read++) {
      expect(await generation.next()).toMatchObject({ value: { index: read - 1, text: long } })
      world.settle()
      const upToBytes = received.creditsBytes.at(-1) ?? FIRST_CREDIT_BYTES
      expect(upToBytes).toBeLessThanOrEqual(FIRST_CREDIT_BYTES + read * FRAME_BYTES)
      grants.push(upToBytes)
      while (balancer.mayToken(received, long)) balancer.token(received, long)
      world.settle()
    }
    // Five frames are the first to be 32 KiB.
    expect(new Set(grants).size).toBe(1 + 40 / 5)
    expect(received.credits.length).toBe(received.creditsBytes.length)
    expect(client.protocolViolations).toBe(0)
  })

  test("bytes beyond the credit are a broken rule, and end the answer", async () => {
    const { world, balancer, client, generation, received } = setup()
    balancer.accept(received)
    for (let i = 0; i < 9; i++) balancer.token(received, long)
    world.settle()
    expect(client.protocolViolations).toBe(1)
    expect(client.lastViolation).toContain("credit up to 65536")
    expect(await generation.ended).toMatchObject({
      outcome: "error",
      reason: "worker_protocol",
      delivered: 8
    })
  })

  test("a reader that never reads gets one window and grants nothing", () => {
    const { world, balancer, client, received } = setup()
    balancer.accept(received)
    for (let i = 0; i < FIRST_CREDIT; i++) balancer.token(received)
    world.settle()
    expect(received.credits).toEqual([])
    expect(client.protocolViolations).toBe(0)
  })
})
