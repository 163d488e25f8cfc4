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
  const resolved = resolveConfig(catalogue, [{ values, origin: () => "test" }], false)
  if (resolved._tag === "Invalid") throw new Error(resolved.problems.map(({ message }) => message).join())
  return resolved.config
}

live("the balancer knows the client that is its own HTTP listener", () =>
  Effect.gen(function* () {
    const { host } = new VirtualNode()
    const balancer = yield* Effect.acquireRelease(
      Effect.sync(() => new FakeBalancer()),
      (balancer) => Effect.promise(() => balancer.close())
    )
    yield* startGateway({
      config: configOf({ listen: { port: 0, httpPort: 0 } }),
      host,
      tcp: `127.0.0.1:${balancer.address.port}`,
      ready: () => true,
      log: yield* eventLog,
      recordingLosses: undefined,
      recordedIn: undefined
    })
    expect(balancer.hellos.map(({ identity }) => identity)).toEqual([host.gateway!])
  })
)
