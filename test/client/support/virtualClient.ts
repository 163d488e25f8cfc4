import { Client, type ClientOptions } from "../../../src/client/Client.ts"
import type { Ending } from "../../../src/client/Ending.ts"
import type { GenerateRequest } from "../../../src/client/GenerateRequest.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { FakeBalancer, type FakeBalancerOptions } from "./FakeBalancer.ts"
import { VirtualWorld } from "./VirtualWorld.ts"

/** A request of the callback form and everything that came of it. */
export interface Observed {
  readonly id: string
  readonly cancel: () => void
  readonly tokens: Array<{ readonly index: number; readonly count: number; readonly text: string }>
  readonly endings: Array<Ending>
  admissions: number
}

export interface VirtualClient {
  readonly world: VirtualWorld
  readonly balancer: FakeBalancer
  readonly client: Client
  readonly start: (request?: Partial<GenerateRequest>) => Observed
}

/** A client and a fake balancer in one virtual world, connected unless `connected` is false. */
export const virtualClient = (
  options: Partial<ClientOptions> = {},
  fake: FakeBalancerOptions = {},
  world = new VirtualWorld()
): VirtualClient => {
  const { transport, timers, turn } = world
  const balancer = new FakeBalancer({ transport, timers, turn, ...fake })
  const rng = makeRng(7)
  const randomU32 = () => rng.int(0x1_0000_0000)
  const client = new Client({ address: "virtual:7420", transport, timers, turn, randomU32, ...options })
  const start = (request: Partial<GenerateRequest> = {}): Observed => {
    const observed: Omit<Observed, "id" | "cancel"> = { tokens: [], endings: [], admissions: 0 }
    const control = client.start(
      { prompt: "hello", maxTokens: 100, ...request },
      {
        text: true,
        admitted: () => void observed.admissions++,
        token: (index, count, text) => void observed.tokens.push({ index, count, text }),
        ended: (ending) => void observed.endings.push(ending)
      }
    )
    return Object.assign(observed, control)
  }
  return { world, balancer, client, start }
}
