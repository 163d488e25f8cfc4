import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { eventLog } from "../../src/cluster/eventLog.ts"
import { startGateway } from "../../src/cluster/startGateway.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import { VirtualNode } from "../actors/support/VirtualNode.ts"
import { FakeBalancer } from "../client/support/FakeBalancer.ts"
import { live } from "../support/effectTest.ts"

const configOf = (values: object) => {
  const resolved = resolveConfig(catalogue, [{ values, origin: () => "test" }], true)
  if (resolved._tag === "Invalid") throw new Error(resolved.problems.map(({ message }) => message).join())
  return resolved.config
}

const start = Effect.fnUntraced(function* (config: object, { host } = new VirtualNode()) {
  const balancer = yield* Effect.acquireRelease(
    Effect.sync(() => new FakeBalancer()),
    (balancer) => Effect.promise(() => balancer.close())
  )
  const node = { host, address: `127.0.0.1:${balancer.address.port}`, recording: {} }
  const http = yield* startGateway(configOf(config), node, yield* eventLog())
  return { balancer, host, http, port: Number(http.split(":").at(-1)) }
})

live("the balancer knows the client that is its own HTTP listener", () =>
  Effect.gen(function* () {
    const { balancer, host } = yield* start({ listen: { httpPort: 0 } })
    expect(balancer.hellos.map(({ identity }) => identity)).toEqual([host.gateway!])
  })
)

live("it is ready when every model has a worker", () =>
  Effect.gen(function* () {
    const models = ["a", "b"]
    const virtual = new VirtualNode({ models })
    const { http } = yield* start(
      { listen: { httpPort: 0 }, models: models.map((name) => ({ name })) },
      virtual
    )
    const status = Effect.promise(async () => (await fetch(`http://${http}/readyz`)).status)
    expect(yield* status).toBe(503)
    virtual.worker("w0", { models: ["a"] })
    expect(yield* status).toBe(503)
    virtual.worker("w1", { models: ["b"] })
    expect(yield* status).toBe(200)
  })
)

live("a scrape says what was answered before it, by path and status", () =>
  Effect.gen(function* () {
    const { http } = yield* start({ listen: { httpPort: 0 } })
    const get = (path: string, init?: RequestInit) =>
      Effect.promise(async () => (await fetch(`http://${http}${path}`, init)).text())
    for (const path of ["/livez", "/a", "/b", "/metrics"]) yield* get(path)
    yield* get("/generate", { method: "POST", body: "{" })
    const lines = (yield* get("/metrics")).matchAll(/^parallax_http_responses_total(.*)$/gm)
    expect([...lines].map(([, line]) => line)).toEqual([
      '{path="/livez",status="200"} 1',
      '{path="other",status="404"} 2',
      '{path="/metrics",status="200"} 1',
      '{path="/generate",status="400"} 1'
    ])
  })
)

live("an address that cannot be bound is named, and what to do", () =>
  Effect.gen(function* () {
    const { port } = yield* start({ listen: { httpPort: 0 } })
    const taken = yield* Effect.flip(start({ listen: { httpPort: port } }))
    expect(taken.message).toStartWith(`127.0.0.1:${port} is in use by another program.`)
    // Of a network for documentation (RFC 5737): no machine has it.
    const foreign = yield* Effect.flip(start({ listen: { host: "203.0.113.7", httpPort: 0 } }))
    expect(foreign.message).toStartWith(
      "203.0.113.7:0 cannot be listened on (EADDRNOTAVAIL). Give listen.host"
    )
  })
)

live("an IPv6 address stands in brackets", () =>
  Effect.gen(function* () {
    const { http, port } = yield* start({ listen: { host: "::1", httpPort: 0 } })
    expect(http).toBe(`[::1]:${port}`)
    const taken = yield* Effect.flip(start({ listen: { host: "::1", httpPort: port } }))
    expect(taken.message).toStartWith(`[::1]:${port} is in use by another program.`)
  })
)
