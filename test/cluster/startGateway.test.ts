import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { eventLog } from "../../src/cluster/eventLog.ts"
import { startGateway } from "../../src/cluster/startGateway.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import type { Admission } from "../../src/policies/Admission.ts"
import { Type } from "../../src/protocol/Header.ts"
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

live("a scrape says whose requests they were, who decided about them, and who waits", () =>
  Effect.gen(function* () {
    const refusing: Admission = {
      decide: ({ promptTokens }) =>
        promptTokens > 100 ? { reason: Reason.sloInfeasible, retryAfterMs: 1 } : null
    }
    const virtual = new VirtualNode({ admissions: [refusing, { decide: () => null }] })
    const { http } = yield* start({ listen: { httpPort: 0 } }, virtual)
    const worker = virtual.worker("w0", { capacity: 1 })
    const client = virtual.client()
    for (const stream of [1, 2, 3]) client.send(client.request({ stream }))
    client.send(client.request({ stream: 4, promptTokens: 500 }))
    client.send(client.request({ stream: 5, model: "nobody's" }))
    const [assign] = worker.of(Type.assign)
    worker.send(worker.token(assign!, 0), worker.about(assign!, Type.done, { a: 1 }))
    const text = yield* Effect.promise(async () => (await fetch(`http://${http}/metrics`)).text())
    const kind = 'model="sim",tenant="default",priority="0"'
    const other = 'model="other",tenant="other",priority="other"'
    const policy = 'policy="predicted-completion"'
    for (const line of [
      `parallax_requests_total{${kind},${policy},outcome="done"} 1`,
      `parallax_requests_total{${kind},${policy},outcome="rejected"} 1`,
      `parallax_requests_total{${other},${policy},outcome="rejected"} 1`,
      `parallax_queue_depth{${kind}} 1`,
      `parallax_queue_depth{model="sim",tenant="other",priority="other"} 0`,
      `parallax_pool_saturation{model="sim"} 1`,
      `parallax_decisions_total{${policy},reason="first",worker="w0"} 2`,
      'parallax_decisions_total{policy="queue-bounds",reason="slo_infeasible",worker=""} 1',
      'parallax_slo_violations_total{type="ttft"} 0',
      "parallax_goodput_total 1"
    ])
      expect(text).toContain(`\n${line}\n`)
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
