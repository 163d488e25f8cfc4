import { describe, expect, test } from "bun:test"
import type { LiveExplanation } from "../../src/domain/Explanation.ts"
import { decisions } from "../../src/gateway/decisions.ts"
import { gateway } from "./support/gateway.ts"

const id = "0123456789abcdef"
const known = { id } as LiveExplanation

const options = {
  explain: (high: number, low: number) => (high === 0x01234567 && low === 0x89abcdef ? known : undefined),
  authorised: () => true,
  isOpen: true
}

const asked = (
  path: string,
  headers: Record<string, string> = {},
  peer: string | undefined = "127.0.0.1",
  more: Partial<typeof options> | { readonly authorised: (credential: string | undefined) => boolean } = {}
): Response =>
  decisions(
    new Request(`http://127.0.0.1${path}`, { headers: { host: "127.0.0.1:8080", ...headers } }),
    peer,
    { ...options, ...more }
  )

const codeOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { error: { code: string } }).error.code

describe("GET /admin/decisions/{id}", () => {
  test("answers with one document, in either case, and lets nobody store it", async () => {
    for (const spelled of [id, id.toUpperCase()]) {
      const response = asked(`/admin/decisions/${spelled}`)
      expect(response.status).toBe(200)
      expect(response.headers.get("cache-control")).toBe("no-store")
      expect(await response.json()).toEqual(known)
    }
  })

  test.each([
    ["an id of nobody", "/admin/decisions/0123456789abcdee", 404, "unknown_request"],
    ["no id", "/admin/decisions/", 400, "invalid_value"],
    ["a short id", "/admin/decisions/0123456789abcde", 400, "invalid_value"],
    ["more than an id", `/admin/decisions/${id}/x`, 400, "invalid_value"],
    ["no hexadecimal digits", "/admin/decisions/0123456789abcdeg", 400, "invalid_value"]
  ])("%s", async (_, path, status, code) => {
    const response = asked(path)
    expect(response.status).toBe(status)
    expect(await codeOf(response)).toBe(code)
  })

  const path = `/admin/decisions/${id}`
  const closed = {
    isOpen: false,
    authorised: (credential: string | undefined) => credential === "let-me-in-please"
  }

  test.each([
    ["this machine", "127.0.0.1", "127.0.0.1:8080", 200],
    ["this machine by another address", "127.8.0.1", "localhost", 200],
    ["this machine over IPv6", "::1", "[::1]:8080", 200],
    ["this machine, mapped", "::ffff:127.0.0.1", "localhost:1", 200],
    ["another machine", "10.0.0.7", "127.0.0.1:8080", 403],
    ["another machine that begins alike", "12.7.0.1", "127.0.0.1", 403],
    ["nobody knows who", undefined, "127.0.0.1", 403],
    ["a page that has its name point here", "127.0.0.1", "evil.example:8080", 403],
    ["a name that begins alike", "127.0.0.1", "127.0.0.1.evil.example", 403],
    ["a name that ends alike", "127.0.0.1", "notlocalhost", 403]
  ])("without credentials: %s", (_, peer, host, status) => {
    expect(asked(path, { host }, peer ?? "").status).toBe(status)
  })

  test.each([
    ["none", undefined, 401],
    ["a wrong one", "Bearer let-me-in", 401],
    ["no bearer", "let-me-in-please", 401],
    ["the right one", "Bearer let-me-in-please", 200]
  ])("with credentials, from anywhere: %s", (_, authorization, status) => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
    const response = asked(path, { host: "parallax.example", ...headers }, "10.0.0.7", closed)
    expect(response.status).toBe(status)
    expect(response.headers.get("www-authenticate")).toBe(status === 401 ? "Bearer" : null)
  })

  test("over a socket, and by no other method", async () => {
    const { url } = await gateway({ explain: options.explain })
    expect(await (await fetch(url + path)).json()).toEqual(known)
    const posted = await fetch(url + path, { method: "POST" })
    expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD"])
    expect((await fetch(`${url}/admin/decisions`)).status).toBe(404)
  })
})
