import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { FakeBalancer, Received } from "./support/FakeBalancer.ts"
import { type Observed, virtualClient } from "./support/virtualClient.ts"
import { VirtualWorld } from "./support/VirtualWorld.ts"

/** What a step does; `who` picks the request, modulo how many there are. */
const step = fc.record({
  what: fc.constantFrom(
    ...([
      "start",
      "accept",
      "token",
      "tokens",
      "done",
      "reject",
      "error",
      "cancel",
      "cut",
      "goodbye",
      "settle",
      "wait"
    ] as const)
  ),
  who: fc.nat(20)
})
type Step = { readonly what: string; readonly who: number }

/** What the balancer may still say about a request. */
type Phase = "sent" | "accepted" | "over"

/** Runs the steps, but those in which the balancer would break the protocol. */
const run = (steps: ReadonlyArray<Step>, seed: number) => {
  const setup = virtualClient({ connections: 2 }, {}, new VirtualWorld(seed))
  const { world, balancer, start } = setup
  const requests: Array<Observed> = []
  const phases = new Map<Received, Phase>()
  for (const { what, who } of steps) {
    if (what === "start") requests.push(start())
    else if (what === "settle") world.settle()
    else if (what === "wait") world.advance(40 * who)
    else if (what === "cut") world.cutAll()
    else if (what === "cancel") requests[who % requests.length]?.cancel()
    else {
      const received = balancer.requests[who % balancer.requests.length]
      if (received === undefined || received.lost) continue
      if (what === "goodbye") received.connection.goodbye("drain", "going")
      else speak(balancer, received, what, phases)
    }
  }
  return { ...setup, requests, phases }
}

const speak = (
  balancer: FakeBalancer,
  received: Received,
  what: string,
  phases: Map<Received, Phase>
): void => {
  const phase = phases.get(received) ?? "sent"
  if (phase === "over") return
  if (what === "reject" && phase === "sent") {
    balancer.reject(received, received.sent === 0 ? Reason.queueFull : Reason.internal, 10)
    phases.set(received, "over")
  } else if (what === "error") {
    balancer.error(received, received.cancels > 0 ? Reason.cancelled : Reason.workerLost)
    phases.set(received, "over")
  } else if (what === "accept" && phase === "sent") {
    balancer.accept(received)
    phases.set(received, "accepted")
  } else if (phase === "accepted") {
    if (what === "token") balancer.token(received, String(received.sent))
    else if (what === "tokens") balancer.token(received, String(received.sent), { count: 7 })
    else if (what === "done") {
      balancer.done(received)
      phases.set(received, "over")
    }
  }
}

const gapFree = ({ tokens }: Observed): boolean => {
  let next = 0
  for (const { index, count, text } of tokens) {
    if (index !== next || text !== String(index)) return false
    next += count
  }
  return true
}

describe("whatever order things happen in", () => {
  test("tokens have no gap and no duplicate, every request ends exactly once, and nothing is left", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 120 }), fc.integer(), async (steps, seed) => {
        const { world, balancer, client, requests, phases } = run(steps, seed)
        world.settle()
        for (const request of requests) {
          expect(gapFree(request)).toBe(true)
          expect(request.endings.length).toBeLessThanOrEqual(1)
        }
        expect(client.inFlight).toBe(requests.filter(({ endings }) => endings.length === 0).length)
        // The balancer answers whatever is still open, in as many tries as the client needs.
        for (let rounds = 0; rounds < 5; rounds++) {
          for (const received of balancer.requests)
            if (!received.lost) speak(balancer, received, "error", phases)
          world.advance(3_000)
        }
        for (const request of requests) {
          expect(request.endings.length).toBe(1)
          expect(gapFree(request)).toBe(true)
          const [ending] = request.endings
          const delivered = request.tokens.reduce((sum, { count }) => sum + count, 0)
          if (ending!.outcome === "done") expect(ending!.tokens).toBeGreaterThanOrEqual(delivered)
          else if (ending!.outcome === "rejected") expect(delivered).toBe(0)
          else expect(ending!.delivered).toBe(delivered)
        }
        expect(client.inFlight).toBe(0)
        expect(client.protocolViolations).toBe(0)
        const closed = client.close()
        await world.rest()
        await closed
        expect(balancer.connections.size).toBe(0)
        expect(balancer.violations).toEqual([])
        expect(world.timerCount).toBe(1)
      }),
      { numRuns: 300 }
    )
  })

  test("a request is sent at most three times, always under one id", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer(), (steps, seed) => {
        const { balancer, requests } = run(steps, seed)
        for (const { id } of requests)
          expect(balancer.requests.filter((each) => each.id === id).length).toBeLessThanOrEqual(3)
        expect(new Set(requests.map(({ id }) => id)).size).toBe(requests.length)
      })
    )
  })
})

describe("a balancer that breaks the rules", () => {
  test.each<readonly [name: string, rogue: (balancer: FakeBalancer, received: Received) => void]>([
    ["skips a token", (balancer, received) => balancer.token(received, "x", { index: 3 })],
    ["repeats a token", (balancer, received) => balancer.token(received, "x", { index: 1 })],
    ["mixes two attempts", (balancer, received) => balancer.token(received, "x", { attempt: 2 })],
    ["ignores the credit", (balancer, received) => balancer.token(received, "x", { count: 500 })],
    ["sends tokens that are no text", (balancer, received) => balancer.token(received, 5 as never)],
    ["rejects what it has begun", (balancer, received) => balancer.reject(received, Reason.queueFull)],
    ["miscounts at the end", (balancer, received) => balancer.done(received, { tokens: 3 })],
    ["sends a wrong DONE", (balancer, received) => balancer.done(received, { payload: { reason: "?" } })]
  ])("%s: counted, cancelled, and the request ends in an explicit error", (_name, rogue) => {
    const { world, balancer, client, start } = virtualClient()
    const request = start({ retryRejected: 1 })
    const other = start()
    world.settle()
    const [received, untouched] = balancer.requests
    balancer.accept(received!)
    balancer.token(received!)
    balancer.token(received!)
    rogue(balancer, received!)
    balancer.answer(untouched!, ["0"])
    world.settle()
    expect(client.protocolViolations).toBe(1)
    expect(request.endings).toMatchObject([
      { outcome: "error", reason: "worker_protocol", delivered: 2, retryable: true }
    ])
    expect(request.tokens.length).toBe(2)
    expect(other.endings).toMatchObject([{ outcome: "done" }])
  })

  test.each<readonly [name: string, rogue: (balancer: FakeBalancer, received: Received) => void]>([
    ["a second terminal", (balancer, received) => balancer.error(received, Reason.internal)],
    ["a token after the end", (balancer, received) => balancer.token(received)],
    ["a stream nobody opened", (balancer, received) => balancer.accept({ ...received, stream: 77 })]
  ])("%s is counted and changes nothing", (_name, rogue) => {
    const { world, balancer, client, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.answer(balancer.requests[0]!, ["0"])
    rogue(balancer, balancer.requests[0]!)
    world.settle()
    expect(client.protocolViolations).toBe(1)
    expect(request.endings.length).toBe(1)
    expect(request.tokens.length).toBe(1)
  })
})
