import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import { connect } from "../../src/client/index.ts"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { startBalancer } from "../../src/cluster/startBalancer.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import { live } from "../support/effectTest.ts"
import { run } from "./support/commands.ts"

const balancer = Effect.suspend(() => {
  const values = { listen: { port: 0, httpPort: 0 }, models: [{ name: "sim" }, { name: "large" }] }
  const resolved = resolveConfig(catalogue, [{ values, origin: () => "test" }], true)
  if (resolved._tag === "Invalid") throw new Error(resolved.problems.map(({ message }) => message).join())
  return startBalancer(resolved.config)
})

const message = 'model: "gpt-9" is not served here, only "sim", "large"'
const asked = { model: "gpt-9", prompt: "hello" }

live("who asks for a model that is not served is told which are: a client, the command line, over HTTP", () =>
  Effect.gen(function* () {
    const { http, tcp } = yield* balancer
    const client = yield* Effect.acquireRelease(
      Effect.promise(() => connect({ address: tcp })),
      (client) => Effect.promise(() => client.close())
    )
    // The second of them names its model by a number alone.
    const generations = [1, 2].map((maxTokens) => client.generate({ ...asked, maxTokens }))
    for (const { ended } of generations)
      expect(yield* Effect.promise(() => ended)).toMatchObject({ reason: "unknown_model", message })

    const ran = yield* Effect.promise(() =>
      run(["client", "--address", tcp, "--model", asked.model, asked.prompt])
    )
    expect(ran).toMatchObject({ exitCode: 1, out: "" })
    expect(ran.err).toMatch(/^\nRequest [0-9a-f]{16} ended as rejected: unknown_model\. (.*)\n$/)
    expect(ran.err).toEndWith(`. ${message}\n`)

    for (const stream of [false, true]) {
      const body = JSON.stringify({ ...asked, stream })
      const response = yield* Effect.promise(() => fetch(`http://${http}/generate`, { method: "POST", body }))
      expect(response.status).toBe(404)
      expect(yield* Effect.promise(() => response.json())).toEqual({
        error: { message, type: "not_found_error", code: "unknown_model", param: "model" }
      })
    }
  })
)
