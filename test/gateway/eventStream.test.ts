import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { gateway } from "./support/gateway.ts"

interface ServerEvent {
  readonly event: string
  readonly data: unknown
}

/** The events of a stream, as the specification of server-sent events reads them. */
const eventsOf = (text: string): ReadonlyArray<ServerEvent> =>
  text
    .split(/\r\n\r\n|\n\n|\r\r/)
    .map((block) => block.split(/\r\n|\n|\r/).filter((line) => line !== "" && !line.startsWith(":")))
    .filter((lines) => lines.length > 0)
    .map((lines) => ({
      event: lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "message",
      data: JSON.parse(
        lines
          .filter((line) => line.startsWith("data: "))
          .map((line) => line.slice(6))
          .join("\n")
      ) as unknown
    }))

describe("server-sent events", () => {
  test.each([
    ["stream: true", { stream: true }, {}],
    ["an Accept header", {}, { accept: "text/event-stream" }]
  ])("asked for by %s: a comment at once, the tokens, the end", async (_name, body, headers) => {
    const { balancer, post, request } = await gateway()
    const responding = post({ prompt: "x", ...body }, { headers: headers as Record<string, string> })
    const received = await request(0)
    balancer.accept(received)
    // The headers are here while the prompt is still being read.
    const response = await responding
    expect(response.status).toBe(200)
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8")
    expect(response.headers.get("x-request-id")).toBe(received.id)
    for (const text of ["a", "b"]) balancer.token(received, text)
    balancer.done(received, { attempt: 2 })
    const text = await response.text()
    expect(text).toStartWith(": accepted\n\n")
    expect(eventsOf(text)).toMatchObject([
      { event: "message", data: { index: 0, text: "a", count: 1 } },
      { event: "message", data: { index: 1, text: "b", count: 1 } },
      { event: "done", data: { outcome: "done", tokens: 2, worker: "w1", attempts: 2 } }
    ])
  })

  test.each([
    ["text/event-stream, application/json", "application/json"],
    ["text/event-stream;q=0, application/json", "application/json"],
    ["application/json, text/event-stream", "application/json"],
    ["Text/Event-Stream; q=0.9", "text/event-stream; charset=utf-8"]
  ])("are for who accepts nothing else: %s", async (accept, type) => {
    const { post } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.answer(received, ["a"]) }
    )
    const response = await post({ prompt: "x" }, { headers: { accept } })
    expect(response.headers.get("content-type")).toBe(type)
    await response.text()
  })

  test("begin with the first token, where that says that the request is admitted", async () => {
    const { balancer, post, request } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.token(received, "a") }
    )
    const response = await post({ prompt: "x", stream: true })
    balancer.done(await request(0))
    expect(eventsOf(await response.text())).toMatchObject([{ data: { text: "a" } }, { event: "done" }])
  })

  test("an answer that breaks ends with an error event", async () => {
    const { post } = await gateway(
      {},
      {
        onRequest: (received, balancer) => {
          balancer.accept(received)
          balancer.token(received, "a")
          balancer.error(received, Reason.workerLost, { message: "worker w1 was lost" })
        }
      }
    )
    const response = await post({ prompt: "x", stream: true })
    expect(response.status).toBe(200)
    expect(eventsOf(await response.text())).toEqual([
      { event: "message", data: { index: 0, text: "a", count: 1 } },
      {
        event: "error",
        data: {
          error: { message: "worker w1 was lost", type: "server_error", code: "worker_lost", param: null }
        }
      }
    ])
  })

  test("nothing a model says can end an event or start another", async () => {
    let answer: ReadonlyArray<string> = []
    const { post } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.answer(received, answer) }
    )
    const nasty = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.constantFrom("\n\ndata: {}", "\r\n\r\nevent: done\n", "\u2028", ": x\n\n", '"}\n\n')
    )
    await fc.assert(
      fc.asyncProperty(fc.array(nasty, { maxLength: 8 }), async (texts) => {
        answer = texts
        const events = eventsOf(await (await post({ prompt: "x", stream: true })).text())
        expect(events.map(({ event }) => event)).toEqual([...texts.map(() => "message"), "done"])
        expect(events.slice(0, -1).map(({ data }) => (data as { text: string }).text)).toEqual([...texts])
      }),
      { numRuns: 50 }
    )
  })

  test("a long answer flows under credit", async () => {
    const { balancer, post, request } = await gateway()
    const response = post({ prompt: "x", maxTokens: 2_000, stream: true })
    const received = await request(0)
    balancer.accept(received)
    const text = (await response).text()
    for (let sent = 0; sent < 2_000; sent++) {
      await balancer.until(() => sent < Math.max(256, ...received.credits))
      balancer.token(received, "y")
    }
    balancer.done(received)
    expect(eventsOf(await text).length).toBe(2_001)
  })

  test("a reader that does not read stops the worker", async () => {
    const { balancer, client, raw, request, post } = await gateway()
    // 16 KiB tokens fill whatever the kernel holds for the silent reader long before the end.
    const stalled = post({ prompt: "x", maxTokens: 100_000, stream: true })
    const received = await request(0)
    balancer.accept(received)
    const response = await stalled
    const big = "z".repeat(16 * 1024)
    while (balancer.mayToken(received, big) && received.sent < 20_000) {
      while (balancer.mayToken(received, big)) balancer.token(received, big)
      // A request of its own goes the same way, so whatever credit there is has arrived by then.
      const echo = raw("GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
      expect(await echo).toContain("live")
    }
    expect(received.sent).toBeLessThan(20_000)
    expect(client.protocolViolations).toBe(0)
    await response.body!.cancel()
    await balancer.until(() => received.cancels === 1)
  })
})

describe("a client that goes away cancels", () => {
  const body = JSON.stringify({ prompt: "x", stream: true })
  const head = (stream: boolean) => {
    const text = stream ? body : JSON.stringify({ prompt: "x" })
    return `POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: ${text.length}\r\n\r\n${text}`
  }

  test.each([
    ["while queued", true, "queued"],
    ["while queued, one document", false, "queued"],
    ["once admitted", true, "admitted"],
    ["once admitted, one document", false, "admitted"],
    ["while streaming", true, "streaming"],
    ["in the middle of one document", false, "streaming"]
  ])("%s", async (_name, stream, phase) => {
    const { balancer, client, port, request } = await gateway()
    const heard = Promise.withResolvers<void>()
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: { data: () => heard.resolve() }
    })
    socket.write(head(stream))
    const received = await request(0)
    if (phase !== "queued") balancer.accept(received)
    if (phase === "streaming") balancer.token(received, "a")
    if (stream && phase !== "queued") await heard.promise
    socket.terminate()
    await balancer.until(() => received.cancels === 1)
    balancer.error(received, Reason.cancelled)
    const after = client.generate({ prompt: "y", maxTokens: 1 })
    balancer.answer(await request(1), ["b"])
    expect(await after.collect()).toMatchObject({ text: "b" })
    expect(client.inFlight).toBe(0)
    expect(received.cancels).toBe(1)
  })

  test("closing the sending side alone counts as going away", async () => {
    const { balancer, port, request } = await gateway()
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      allowHalfOpen: true,
      socket: { data: () => undefined }
    })
    socket.write(head(true))
    const received = await request(0)
    socket.shutdown()
    await balancer.until(() => received.cancels === 1)
    socket.terminate()
  })

  test("before the body is complete: nothing reaches the balancer", async () => {
    const { balancer, port, post } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.answer(received, ["a"]) }
    )
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => undefined } })
    socket.write("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{")
    socket.flush()
    socket.terminate()
    expect((await post({ prompt: "x" })).status).toBe(200)
    expect(balancer.requests.length).toBe(1)
  })
})
