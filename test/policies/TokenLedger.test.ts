import { expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { TokenLedger } from "../../src/policies/TokenLedger.ts"
import { ledgerExact } from "../laws/ledgerLaws.ts"
import { equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

const pool = poolOf(equalWorkers(1))

test(ledgerExact.statement, () =>
  ledgerExact.check({ make: (options, pay) => new TokenLedger(options, pay) })
)

test("charges come when the tokens do, and what was charged ahead comes back at the end", () => {
  const charges: Array<number> = []
  const ledger = new TokenLedger(
    { inputPrice: 1, outputPrice: 2, charge: "uncached", predict: true },
    (_, cost) => charges.push(cost)
  )
  const request = { ...oneRequest, promptTokens: 100, maxTokens: 20 }
  ledger.take(request, pool)
  ledger.place({ ...request, uncachedTokens: 30 }, pool)
  ledger.start(request)
  ledger.produce(request, 4)
  ledger.end(request, Reason.none)
  ledger.end(request, Reason.none)
  expect(charges).toEqual([100 + 2 * 10, -70, -2 * 6])
})
