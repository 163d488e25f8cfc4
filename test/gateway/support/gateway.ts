import { afterEach } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { type Client, connect } from "../../../src/client/index.ts"
import { BodyRoom } from "../../../src/gateway/generate.ts"
import { type HttpServerOptions, makeHttpServer } from "../../../src/gateway/HttpServer.ts"
import { FakeBalancer, type FakeBalancerOptions, type Received } from "../../client/support/FakeBalancer.ts"

export interface Gateway {
  /** What was counted, as `path status`. */
  readonly answers: ReadonlyArray<string>
  readonly balancer: FakeBalancer
  readonly client: Client
  readonly port: number
  readonly url: string
  readonly close: () => Promise<void>
  readonly post: (body: unknown, init?: RequestInit) => Promise<Response>
  /** The nth REQUEST that reached the balancer, once it is there; 0 is the first. */
  readonly request: (n: number) => Promise<Received>
  /** What comes back for these bytes, until the gateway closes or `until` is in it. */
  readonly raw: (bytes: string, until?: string) => Promise<string>
}

const cleanups: Array<() => Promise<void>> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

/** HTTP listener, client and fake balancer over loopback, gone after the test. */
export const gateway = async (
  options: Partial<HttpServerOptions> = {},
  fake: FakeBalancerOptions = {}
): Promise<Gateway> => {
  const balancer = new FakeBalancer(fake)
  const client = await connect({ address: balancer.address })
  const scope = Scope.makeUnsafe()
  const answers: Array<string> = []
  const { port } = await Effect.runPromise(
    makeHttpServer({
      host: "127.0.0.1",
      port: 0,
      client,
      defaultModel: () => "m",
      bodyBytesMax: 1024 * 1024,
      bodies: new BodyRoom(2 ** 26),
      authorised: () => true,
      isOpen: true,
      explain: () => undefined,
      ready: () => true,
      metrics: { contentType: "text/plain; version=0.0.4", render: () => Promise.resolve("metric 1\n") },
      answered: (path, status) => answers.push(`${path} ${status}`),
      ...options
    }).pipe(Scope.provide(scope), Effect.provide(Logger.layer([])))
  )
  const url = `http://127.0.0.1:${port}`
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  cleanups.push(async () => {
    await client.close()
    await close()
    await balancer.close()
  })
  return {
    answers,
    balancer,
    client,
    port,
    url,
    close,
    post: (body, init) =>
      fetch(`${url}/generate`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...init
      }),
    request: async (n) => {
      await balancer.until(() => balancer.requests.length > n)
      return balancer.requests[n]!
    },
    raw: (bytes, until) => exchange(port, bytes, until)
  }
}

const exchange = async (port: number, bytes: string, until = "\u0000"): Promise<string> => {
  const { promise, resolve } = Promise.withResolvers<void>()
  let text = ""
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (_, data) => {
        text += data.toString("latin1")
        if (text.includes(until)) resolve()
      },
      close: () => resolve(),
      end: () => resolve()
    }
  })
  socket.write(bytes)
  await promise
  socket.terminate()
  return text
}
