import { describe, expect, test } from "bun:test"
import { AdminFailed, connectAdmin } from "../../src/client/Admin.ts"
import { ConnectFailed } from "../../src/client/ConnectFailed.ts"
import { snapshot } from "../protocol/support/goldenFrames.ts"
import { FakeBalancer } from "./support/FakeBalancer.ts"
import { VirtualWorld } from "./support/VirtualWorld.ts"

const setup = async () => {
  const world = new VirtualWorld()
  const { transport, timers, turn } = world
  const balancer = new FakeBalancer({ transport, timers, turn })
  const connecting = connectAdmin({ address: "virtual:7420", transport, timers, turn })
  await world.rest()
  return { world, balancer, admin: await connecting }
}

const failureOf = async (world: VirtualWorld, promise: Promise<unknown>): Promise<AdminFailed> => {
  const failed = promise.then(
    () => undefined,
    (error: unknown) => error
  )
  await world.rest()
  const error = await failed
  expect(error).toBeInstanceOf(AdminFailed)
  return error as AdminFailed
}

describe("connectAdmin", () => {
  test("asks, each question with its own answer", async () => {
    const { world, balancer, admin } = await setup()
    expect(balancer.hellos[0]!.role).toBe("admin")
    expect(admin.balancer).toBe("fake")
    const asked: Array<unknown> = []
    balancer.admin = (question) => {
      asked.push(question)
      return question["op"] === "snapshot" ? { epoch: 1, inFlight: 2, queued: 3, workers: [] } : {}
    }
    const all = Promise.all([admin.snapshot(), admin.crashBalancer(), admin.drainWorker("w1")])
    await world.rest()
    const [snapshot] = await all
    expect(snapshot as unknown).toEqual({ epoch: 1, inFlight: 2, queued: 3, workers: [] })
    expect(asked).toEqual([
      { op: "snapshot" },
      { op: "crash", target: "balancer" },
      { op: "drain", worker: "w1" }
    ])
  })

  test("reads of as many workers as a balancer takes", async () => {
    const { world, balancer, admin } = await setup()
    const [worker] = snapshot.workers
    const workers = Array.from({ length: 1024 }, (_, i) => ({ ...worker, name: `worker-${i}` }))
    balancer.admin = () => ({ ...snapshot, workers })
    const reading = admin.snapshot()
    await world.rest()
    expect((await reading).workers).toHaveLength(1024)
  })

  test("a refusal and an unreadable answer are failures", async () => {
    const { world, balancer, admin } = await setup()
    balancer.admin = () => ({ error: "there is no worker of this name" })
    expect((await failureOf(world, admin.drainWorker("w9"))).message).toBe(
      "drain: there is no worker of this name"
    )
    balancer.admin = () => 5
    expect((await failureOf(world, admin.crashBalancer())).why).toBe("the answer cannot be read")
    balancer.admin = () => ({})
    expect((await failureOf(world, admin.snapshot())).why).toBe("the answer is not a snapshot")
  })

  test("what is no address is refused by the promise, and nothing is left", async () => {
    const world = new VirtualWorld()
    const { transport, timers, turn } = world
    for (const address of ["nowhere", { host: "127.0.0.1", port: 65_536 }]) {
      const error = await connectAdmin({ address, transport, timers, turn }).catch((e: unknown) => e)
      expect(error).toBeInstanceOf(RangeError)
    }
    expect(world.timerCount).toBe(0)
  })

  test("silence and a lost connection are failures", async () => {
    const { world, admin } = await setup()
    const silent = failureOf(world, admin.snapshot())
    await world.rest()
    world.advance(10_000)
    expect((await silent).why).toBe("no answer within 10000 ms")
    const lost = failureOf(world, admin.snapshot())
    await world.rest()
    world.cutAll()
    expect((await lost).why).toBe("closed")
    expect((await failureOf(world, admin.snapshot())).why).toBe("the connection is closed")
    expect(world.timerCount).toBe(1)
  })

  test("close leaves nothing behind", async () => {
    const { world, balancer, admin } = await setup()
    const closed = admin.close()
    await world.rest()
    await closed
    expect(balancer.connections.size).toBe(0)
    expect(world.timerCount).toBe(1)
  })

  test("nobody there", async () => {
    const world = new VirtualWorld()
    const { transport, timers, turn } = world
    const failed = connectAdmin({ address: "virtual:7420", transport, timers, turn }).catch(
      (error: unknown) => error
    )
    await world.rest()
    expect(await failed).toBeInstanceOf(ConnectFailed)
  })
})
