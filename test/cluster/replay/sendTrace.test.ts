import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import { sendTrace } from "../../../src/cluster/replay/sendTrace.ts"
import { Tally } from "../../../src/cluster/replay/Tally.ts"
import { connect } from "../../../src/client/index.ts"
import { FakeBalancer } from "../../client/support/FakeBalancer.ts"
import { live } from "../../support/effectTest.ts"
import { root } from "../../support/repository.ts"
import { traceOf } from "../../support/traceOf.ts"
import { noInput } from "../support/commands.ts"

live("the line of the progress is wiped when all requests have ended", () =>
  Effect.gen(function* () {
    const balancer = new FakeBalancer({
      onRequest: (request, balancer) => balancer.done(request)
    })
    const address = balancer.address
    const client = yield* Effect.promise(() => connect({ address }))
    let shown = ""
    const shell = {
      environment: {},
      directory: root,
      input: noInput,
      out: async () => true,
      err: (text: string) => void (shown += text),
      errColumns: 40
    }
    yield* sendTrace({
      client,
      // The second one leaves after the first look at how far it is.
      trace: traceOf(
        '{"timestamp":0,"input_length":1,"output_length":1}\n{"timestamp":300,"input_length":1,"output_length":1}\n'
      ),
      modelOf: () => "sim",
      compression: 1,
      tally: new Tally(1, { ttftMs: 1, tpotMs: 1 }),
      shell
    })
    expect(shown).toMatch(/^\r.*50 %/)
    expect(shown).toEndWith(`\r${" ".repeat(39)}\r`)
    yield* Effect.promise(() => client.close())
    yield* Effect.promise(() => balancer.close())
  })
)
