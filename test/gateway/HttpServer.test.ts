import { describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import { BodyRoom, generate } from "../../src/gateway/generate.ts"
import { makeHttpServer } from "../../src/gateway/HttpServer.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { gateway } from "./support/gateway.ts"

const codeOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { error: { code: string } }).error.code

describe("probes", () => {
  test("livez, readyz, metrics", async () => {
    let ready = false
    const { url } = await gateway({ ready: () => ready })
    expect((await fetch(`${url}/livez`)).status).toBe(200)
    expect((await fetch(`${url}/readyz`)).status).toBe(503)
    ready = true
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    const metrics = await fetch(`${url}/metrics`)
    expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4")
    expect(await metrics.text()).toBe("metric 1\n")
  })

  test.each([
    ["GET", "/", 404, "unknown_path"],
    ["GET", "/livez/", 404, "unknown_path"],
    ["POST", "/livez", 405, "method_not_allowed"],
    ["GET", "/generate", 405, "method_not_allowed"],
    ["OPTIONS", "/generate", 405, "method_not_allowed"],
    ["DELETE", "/metrics", 405, "method_not_allowed"]
  ])("%s %s is %i", async (method, path, status, code) => {
    const { url } = await gateway()
    const response = await fetch(url + path, { method })
    expect(response.status).toBe(status)
    expect(await codeOf(response)).toBe(code)
    if (status === 405)
      expect(response.headers.get("allow")).toBe(path === "/generate" ? "POST" : "GET, HEAD")
    expect(response.headers.get("access-control-allow-origin")).toBeNull()
  })

  test.each([
    ["two of them", "Host: a\r\nHost: b"],
    ["two names", "Host: a,b"],
    ["a path in it", "Host: a/b"],
    ["a user in it", "Host: a@b"],
    ["a lone percent sign", "Host: %"],
    ["half a bracket", "Host: ["],
    ["two ports", "Host: a:b:c"],
    ["a tag", "Host: <x>"],
    ["none", "X: y"]
  ])("a Host header with %s is 400", async (_name, header) => {
    const { raw } = await gateway()
    expect(await raw(`GET /livez HTTP/1.1\r\n${header}\r\nConnection: close\r\n\r\n`)).toStartWith(
      "HTTP/1.1 400 "
    )
  })

  test("a probe that speaks HTTP/1.0 need not name a host, and is no local one without", async () => {
    const { raw } = await gateway()
    expect(await raw("GET /livez HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 [^]*live\n$/)
    const decision = "GET /admin/decisions/0123456789abcdef HTTP/1.0\r\n"
    expect(await raw(`${decision}\r\n`)).toStartWith("HTTP/1.1 403 ")
    const guarded = await gateway({ isOpen: false })
    expect(await guarded.raw(`${decision}\r\n`)).toStartWith("HTTP/1.1 404 ")
  })

  test.each([
    ["another path", "POST /nowhere", ""],
    ["another method", "PUT /generate", ""],
    ["another content type", "POST /generate", "content-type: text/plain\r\n"],
    ["a page of another origin", "POST /generate", "origin: https://evil.example\r\n"],
    ["more than the limit", "POST /generate", ""]
  ])("the body of a request refused for %s is never taken for the next one", async (_name, line, header) => {
    const { balancer, raw } = await gateway({ bodyBytesMax: 100 })
    const smuggled = `POST /generate HTTP/1.1\r\nhost: a\r\ncontent-length: 14\r\n\r\n{"prompt":"x"}${" ".repeat(60)}`
    const refused = `${line} HTTP/1.1\r\nhost: a\r\n${header}content-length: ${smuggled.length}\r\n\r\n${smuggled}`
    const got = await raw(`${refused}GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`)
    expect(got.match(/HTTP\/1\.1 \d+/g)?.join()).toMatch(/^HTTP\/1\.1 4\d\d,HTTP\/1\.1 200$/)
    expect(balancer.requests).toEqual([])
  })

  test("a taken port is an error that says so", async () => {
    const { client, port } = await gateway()
    const again = makeHttpServer({
      host: "127.0.0.1",
      port,
      client,
      defaultModel: () => "m",
      bodyBytesMax: 1_000,
      bodies: new BodyRoom(2 ** 26),
      authorised: () => true,
      isOpen: true,
      explain: () => undefined,
      ready: () => true,
      metrics: { contentType: "", render: () => Promise.resolve("") },
      answered: () => undefined
    })
    expect(await Effect.runPromise(Effect.flip(Effect.scoped(again)))).toMatchObject({
      _tag: "BindFailed",
      port,
      code: "EADDRINUSE"
    })
  })

  test("what breaks inside is 500 and tells nothing", async () => {
    const { answers, url } = await gateway({
      metrics: { contentType: "", render: () => Promise.reject(new Error("secret")) }
    })
    const response = await fetch(`${url}/metrics`)
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain("secret")
    expect(answers).toEqual(["/metrics 500"])
  })
})

describe("one document", () => {
  test("holds the answer and how it came about", async () => {
    const { balancer, post, request } = await gateway()
    const asked = {
      prompt: "Hello",
      model: "m2",
      maxTokens: 7,
      class: 2,
      session: "s",
      timeoutMs: 5_000,
      ignored: {}
    }
    const response = post(asked, { headers: { "content-type": "application/json" } })
    const received = await request(0)
    expect(received).toMatchObject({ maxTokens: 7, class: 2, promptTokens: 2, payload: { prompt: "Hello" } })
    expect(received.extras?.modelName).toBe("m2")
    expect(received.timeoutMs).toBeLessThanOrEqual(5_000)
    balancer.answer(received, ["a", "b"])
    const { status, headers } = await response
    expect(status).toBe(200)
    expect(headers.get("x-request-id")).toBe(received.id)
    expect(headers.get("x-parallax-worker")).toBe("w1")
    expect(headers.get("x-parallax-attempts")).toBe("1")
    const text = await (await response).text()
    expect(text).not.toMatch(/\d\.\d{5}/)
    expect(JSON.parse(text)).toMatchObject({
      id: received.id,
      model: "m2",
      text: "ab",
      outcome: "done",
      reason: "stop",
      tokens: 2,
      worker: "w1",
      attempts: 1
    })
  })

  test("curl's own content type and the defaults will do", async () => {
    const { balancer, post, request } = await gateway()
    const response = post(
      { prompt: "x" },
      { headers: { "content-type": "application/x-www-form-urlencoded" } }
    )
    const received = await request(0)
    expect(received.maxTokens).toBe(128)
    expect(received.extras?.modelName).toBe("m")
    balancer.answer(received, [])
    expect(await (await response).json()).toMatchObject({ text: "", tokens: 0 })
  })

  test.each([
    [Reason.badRequest, 400, "invalid_request_error", "bad_request", null],
    [Reason.unknownModel, 404, "not_found_error", "unknown_model", null],
    [Reason.duplicateRequest, 409, "invalid_request_error", "duplicate_request", null],
    [Reason.queueFull, 429, "rate_limit_error", "queue_full", "2"],
    [Reason.waitTooLong, 429, "rate_limit_error", "wait_too_long", "2"],
    [Reason.noWorker, 503, "service_unavailable_error", "no_worker", "2"],
    [Reason.draining, 503, "service_unavailable_error", "draining", "2"],
    [Reason.internal, 500, "server_error", "internal", null]
  ] as const)("a rejection with reason %i is %i", async (reason, status, type, code, retryAfter) => {
    const { post } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.reject(received, reason, 1_500, "why") }
    )
    for (const stream of [false, true]) {
      const response = await post({ prompt: "x", stream })
      expect(response.status).toBe(status)
      expect(response.headers.get("retry-after")).toBe(retryAfter)
      expect(await response.json()).toEqual({
        error: { message: "why", type, code, param: code === "unknown_model" ? "model" : null }
      })
    }
  })

  test("nobody is sent away for more than a minute, or for no time", async () => {
    let retryAfterMs = 0
    const { post } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.reject(received, Reason.queueFull, retryAfterMs) }
    )
    expect((await post({ prompt: "x" })).headers.get("retry-after")).toBe("1")
    retryAfterMs = 3_600_000
    expect((await post({ prompt: "x" })).headers.get("retry-after")).toBe("60")
  })

  test.each([
    [Reason.workerLost, 502, "worker_lost"],
    [Reason.expired, 504, "expired"],
    [Reason.workerRefused, 503, "worker_refused"]
  ] as const)("an answer that breaks with reason %i is %i", async (reason, status, code) => {
    const { post } = await gateway(
      {},
      {
        onRequest: (received, balancer) => {
          balancer.accept(received)
          balancer.token(received)
          balancer.error(received, reason, { attempt: 3 })
        }
      }
    )
    const response = await post({ prompt: "x" })
    expect(response.status).toBe(status)
    expect(response.headers.get("x-parallax-attempts")).toBe("3")
    expect(await codeOf(response)).toBe(code)
  })

  test("who was let in and not served is told when to come back as the balancer says", async () => {
    const { post } = await gateway(
      {},
      {
        onRequest: (received, balancer) => {
          balancer.accept(received)
          balancer.error(received, Reason.shed, { retryAfterMs: 1_500 })
        }
      }
    )
    const { headers, status } = await post({ prompt: "x" })
    expect([status, headers.get("retry-after"), headers.get("retry-after-ms")]).toEqual([429, "2", "1500"])
  })
})

describe("what is refused before the balancer hears of it", () => {
  test.each<readonly [name: string, body: string, message: string, param: string | null]>([
    ["no JSON", "{", "the body must be a JSON object", null],
    ["a list", "[]", "the body must be a JSON object", null],
    ["null", "null", "the body must be a JSON object", null],
    ["nothing", "", "the body must be a JSON object", null],
    ["deep nesting", "[".repeat(100_000), "the body is nested deeper than 32", null],
    ["no prompt", "{}", "prompt must be a string that is not empty", "prompt"],
    ["an empty prompt", '{"prompt":""}', "prompt must be a string that is not empty", "prompt"],
    ["a prompt of another type", '{"prompt":["x"]}', "prompt must be a string that is not empty", "prompt"],
    [
      "maxTokens 0",
      '{"prompt":"x","maxTokens":0}',
      "maxTokens must be an integer from 1 to 1000000",
      "maxTokens"
    ],
    [
      "maxTokens as text",
      '{"prompt":"x","maxTokens":"5"}',
      "maxTokens must be an integer from 1 to 1000000",
      "maxTokens"
    ],
    [
      "maxTokens in halves",
      '{"prompt":"x","maxTokens":1.5}',
      "maxTokens must be an integer from 1 to 1000000",
      "maxTokens"
    ],
    [
      "an infinite maxTokens",
      '{"prompt":"x","maxTokens":1e400}',
      "maxTokens must be an integer from 1 to 1000000",
      "maxTokens"
    ],
    [
      "a class beyond the last",
      '{"prompt":"x","class":256}',
      "class must be an integer from 0 to 255",
      "class"
    ],
    [
      "a deadline in the past",
      '{"prompt":"x","timeoutMs":-1}',
      "timeoutMs must be an integer from 1 to 86400000",
      "timeoutMs"
    ],
    [
      "a model of another type",
      '{"prompt":"x","model":null}',
      "model must be 1 to 128 visible ASCII characters",
      "model"
    ],
    ["stream as text", '{"prompt":"x","stream":"yes"}', "stream must be true or false", "stream"]
  ])("%s is 400, and the message names field and rule", async (_name, body, message, param) => {
    const { balancer, post } = await gateway()
    const response = await post(body)
    expect(response.status).toBe(400)
    const { error } = (await response.json()) as { error: Record<string, unknown> }
    expect(error).toMatchObject({ message, param, type: "invalid_request_error" })
    expect(balancer.requests).toEqual([])
  })

  test.each([
    ["another content type", { "content-type": "text/plain" }, 415, "unsupported_media_type"],
    ["a compressed body", { "content-encoding": "gzip" }, 415, "unsupported_encoding"],
    ["a page of another origin", { origin: "https://evil.example" }, 403, "foreign_origin"],
    ["a page without an origin of its own", { origin: "null" }, 403, "foreign_origin"]
  ])("%s", async (_name, headers, status, code) => {
    const { balancer, post } = await gateway()
    const response = await post({ prompt: "x" }, { headers: headers as Record<string, string> })
    expect(response.status).toBe(status)
    expect(await codeOf(response)).toBe(code)
    expect(balancer.requests).toEqual([])
  })

  test("our own origin is let in", async () => {
    const { post, url } = await gateway(
      {},
      { onRequest: (received, balancer) => balancer.answer(received, ["a"]) }
    )
    expect((await post({ prompt: "x" }, { headers: { origin: url } })).status).toBe(200)
  })

  test.each([1_500, 10_000])("a body of %i bytes where 1,000 are allowed is 413", async (size) => {
    const { balancer, post, raw } = await gateway({ bodyBytesMax: 1_000 })
    expect((await post({ prompt: "x".repeat(size) })).status).toBe(413)
    const chunked = `${size.toString(16)}\r\n${"x".repeat(size)}\r\n0\r\n\r\n`
    const head =
      "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    expect(await raw(head + chunked)).toStartWith("HTTP/1.1 413 ")
    expect(balancer.requests).toEqual([])
  })

  test("bodies have so much room while they are read, and give it back however they end", async () => {
    const bodies = new BodyRoom(2_000)
    const { balancer, post, raw } = await gateway(
      { bodyBytesMax: 1_000, bodies },
      { onRequest: (received, balancer) => balancer.answer(received, ["a"]) }
    )
    expect(bodies.take(1_990)).toBe(true)
    const refused = await post({ prompt: "x" })
    expect([refused.status, refused.headers.get("retry-after-ms")]).toEqual([429, "100"])
    expect(await codeOf(refused)).toBe("limit")
    expect(balancer.requests).toEqual([])
    bodies.give(1_990)
    expect((await post({ prompt: "x" })).status).toBe(200)
    expect((await post("{")).status).toBe(400)
    // Of no announced length, and of one that is announced twice: both take all there is.
    const head = "POST /generate HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    await raw(`${head}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`)
    await raw(`${head}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}`)
    expect(bodies.take(2_001)).toBe(false)
    expect(bodies.take(2_000)).toBe(true)
  })

  test("a prompt that fits the body and no frame is 400, and the message says what to do", async () => {
    const { post } = await gateway()
    const response = await post({ prompt: "x".repeat(1024 * 1024 - 100) })
    expect(response.status).toBe(400)
    expect(await response.text()).toContain("shorten the prompt, or raise limits.frameBytes")
  })

  test("a body that is not UTF-8 is 400", async () => {
    const { post } = await gateway()
    const body = Buffer.from('{"prompt":"\xff"}', "latin1")
    expect((await post("", { body })).status).toBe(400)
  })

  test("who has no credential is 401, whatever else is wrong", async () => {
    const { balancer, post } = await gateway(
      { authorised: (credential) => credential === "secret" },
      { onRequest: (received, balancer) => balancer.answer(received, ["a"]) }
    )
    const authorizations = ["Bearer wrong", "Basic secret", "Bearer secret, Bearer secret", ""]
    for (const authorization of authorizations) {
      const response = await post("{", { headers: { authorization, "content-type": "text/plain" } })
      expect(response.status).toBe(401)
      expect(response.headers.get("www-authenticate")).toBe("Bearer")
    }
    expect(balancer.requests).toEqual([])
    for (const authorization of ["Bearer secret", "bearer secret", "Bearer   secret"])
      expect((await post({ prompt: "x" }, { headers: { authorization } })).status).toBe(200)
  })
})

describe("an answer is counted by its path and status", () => {
  test.each<readonly [name: string, path: string, init: RequestInit, counted: string]>([
    ["a probe", "/livez?x=1", {}, "/livez 200"],
    ["a probe that is told no", "/readyz", {}, "/readyz 503"],
    ["no JSON", "/generate", { method: "POST", body: "{" }, "/generate 400"],
    ["no credential", "/generate", { method: "POST", headers: { authorization: "" } }, "/generate 401"],
    ["too much", "/generate", { method: "POST", body: "x".repeat(101) }, "/generate 413"],
    ["another method", "/generate", { method: "PUT" }, "/generate 405"],
    ["a rejection", "/generate", { method: "POST", body: '{"prompt":"x"}' }, "/generate 429"],
    ["an id of its own", "/admin/decisions/0123456789abcdef", {}, "/admin/decisions/ 404"],
    ["another path", "/wp-login.php", {}, "other 404"],
    ["a path that every object has", "/constructor", {}, "other 404"]
  ])("%s", async (_name, path, init, counted) => {
    const { answers, url } = await gateway(
      {
        ready: () => false,
        bodyBytesMax: 100,
        authorised: (credential) => credential === "secret"
      },
      { onRequest: (received, balancer) => balancer.reject(received, Reason.queueFull) }
    )
    await (await fetch(url + path, { headers: { authorization: "Bearer secret" }, ...init })).text()
    expect(answers).toEqual([counted])
  })

  test("a wrong Host header", async () => {
    const { answers, raw } = await gateway()
    await raw("GET /livez HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n")
    expect(answers).toEqual(["other 400"])
  })

  test("once, and as 200, where it is a stream that breaks off", async () => {
    const { answers, post } = await gateway(
      {},
      {
        onRequest: (received, balancer) => {
          balancer.token(received)
          balancer.error(received, Reason.workerLost)
        }
      }
    )
    expect(await (await post({ prompt: "x", stream: true })).text()).toContain("event: error")
    expect(answers).toEqual(["/generate 200"])
  })
})

test.each([false, true])(
  "a connection may be idle while its answer is awaited, and not after it (stream: %p)",
  async (stream) => {
    const waits: Array<boolean> = []
    const { balancer, client, request } = await gateway()
    const response = generate(
      new Request("http://a/generate", { method: "POST", body: JSON.stringify({ prompt: "x", stream }) }),
      {
        client,
        defaultModel: () => "m",
        bodyBytesMax: 1_000,
        bodies: new BodyRoom(2_000),
        authorised: () => true
      },
      (isWaiting) => waits.push(isWaiting)
    )
    const received = await request(0)
    expect(waits).toEqual([true])
    balancer.answer(received, ["a"])
    expect(await (await response).text()).toContain("a")
    expect(waits).toEqual([true, false])
  }
)

describe("close", () => {
  test("lets open answers leave, and takes nothing new", async () => {
    const { balancer, post, request, close, url } = await gateway()
    const response = post({ prompt: "x", stream: true })
    const received = await request(0)
    balancer.accept(received)
    const text = (await response).text()
    const closed = close()
    balancer.token(received, "late")
    balancer.done(received)
    expect(await text).toContain('"text":"late"')
    await closed
    expect(await fetch(`${url}/livez`).catch(() => "refused")).toBe("refused")
  })
})
