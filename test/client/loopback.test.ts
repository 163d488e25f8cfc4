import { afterEach, describe, expect, test } from "bun:test"
import { Client, connect } from "../../src/client/Client.ts"
import { ConnectFailed } from "../../src/client/ConnectFailed.ts"
import { FakeBalancer, type Received } from "./support/FakeBalancer.ts"

const cleanups: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

/** A balancer on a free port, and requests as they come. */
const listen = () => {
  const arrivals: Array<(received: Received) => void> = []
  const balancer = new FakeBalancer({ onRequest: (received) => arrivals.shift()?.(received) })
  cleanups.push(() => balancer.close())
  const nextRequest = (): Promise<Received> => {
    const { promise, resolve } = Promise.withResolvers<Received>()
    arrivals.push(resolve)
    return promise
  }
  return { balancer, nextRequest }
}

const request = { prompt: "hello", maxTokens: 100 }

describe("over TCP", () => {
  test("many requests share one connection", async () => {
    const { balancer } = listen()
    const client = await connect({ address: balancer.address })
    cleanups.push(() => client.close())
    expect(client.models).toEqual(["m"])
    const generations = Array.from({ length: 200 }, () => client.generate(request))
    await balancer.until(() => balancer.requests.length === 200)
    for (const received of balancer.requests.toReversed()) {
      balancer.answer(received, received.id.split(""))
    }
    const answers = await Promise.all(generations.map((generation) => generation.collect()))
    expect(answers.map(({ text }) => text)).toEqual(generations.map(({ id }) => id))
    expect(balancer.connections.size).toBe(1)
    expect(client.protocolViolations).toBe(0)
  })

  test("a reset before the first token is made good", async () => {
    const { balancer, nextRequest } = listen()
    const client = await connect({ address: balancer.address })
    cleanups.push(() => client.close())
    const first = nextRequest()
    const generation = client.generate(request)
    const lost = await first
    const second = nextRequest()
    lost.connection.cut("test")
    const again = await second
    expect(again.id).toBe(lost.id)
    balancer.answer(again, ["a"])
    expect(await generation.collect()).toMatchObject({ text: "a", ending: { outcome: "done" } })
  })

  test("an answer longer than the window flows as it is read", async () => {
    const { balancer, nextRequest } = listen()
    const client = await connect({ address: balancer.address })
    cleanups.push(() => client.close())
    const arrival = nextRequest()
    const generation = client.generate({ prompt: "x", maxTokens: 1_000 })
    const received = await arrival
    balancer.accept(received)
    const text = generation.collect()
    for (let sent = 0; sent < 1_000; sent++) {
      await balancer.until(() => sent < Math.max(256, ...received.credits))
      balancer.token(received, `${sent} `)
    }
    balancer.done(received)
    expect((await text).text).toBe(Array.from({ length: 1_000 }, (_, i) => `${i} `).join(""))
  })

  test("nobody there", async () => {
    const { balancer } = listen()
    const { address } = balancer
    await balancer.close()
    expect(await connect({ address }).catch((error: unknown) => error)).toBeInstanceOf(ConnectFailed)
  })

  test("a closed client leaves no connection", async () => {
    const { balancer } = listen()
    const client = await connect({ address: balancer.address, connections: 4 })
    expect(balancer.connections.size).toBe(4)
    await client.close()
    expect(balancer.connections.size).toBe(0)
  })

  test("nor does one that waited for its greeting", async () => {
    const [greeted, gone] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const socket = { data: () => greeted.resolve(), close: () => gone.resolve() }
    const mute = Bun.listen({ hostname: "127.0.0.1", port: 0, socket })
    cleanups.push(async () => mute.stop(true))
    const address = { host: "127.0.0.1", port: mute.port }
    const client = new Client({ address, connectMs: 60_000 })
    const generation = client.generate(request)
    await greeted.promise
    await client.close()
    await gone.promise
    expect(await generation.ended).toMatchObject({ outcome: "cancelled" })
  })
})
