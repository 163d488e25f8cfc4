import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { join } from "node:path"
import { limitOf, type Trace } from "../../../src/domain/Trace.ts"
import { FIRST_LINES } from "../../../src/domain/traces/formats.ts"
import { parseTrace } from "../../../src/domain/traces/parseTrace.ts"
import { BLOCK_TOKENS, traceChain } from "../../../src/domain/traceChain.ts"
import { makeConversations } from "../../fixtures/makeConversations.ts"
import { makeTrace } from "../../fixtures/makeTrace.ts"
import { exists, root } from "../../support/repository.ts"

const header = { format: "llm-trace/1", name: "x", kind: "real", blockSize: 64, partialTail: true }
const textOf = (...lines: ReadonlyArray<unknown>): string =>
  lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n")
const parsed = (text: string, limit = Infinity): Trace => {
  const parsed = parseTrace(text, { limit })
  if (!("trace" in parsed)) throw new Error(parsed.join("\n"))
  return parsed.trace
}

test("the fixtures are what their scripts make", async () => {
  const bytes = await Bun.file(join(root, "test/fixtures/conversations.jsonl.gz")).bytes()
  expect(new TextDecoder().decode(Bun.gunzipSync(bytes))).toBe(makeConversations())
  expect(await Bun.file(join(root, "test/fixtures/small.jsonl")).text()).toBe(makeTrace(80))
})

describe("a trace", () => {
  test("is read, whatever fields it has that nobody knows", () => {
    const request = {
      t: 5,
      in: 100,
      out: 2,
      blocks: [7, 8],
      session: "s",
      tenant: "t",
      model: "m",
      turn: 1,
      think: 3,
      queueMs: 4
    }
    expect(parsed(textOf(header, request, "", { t: 5, in: 1, out: 1 }))).toEqual({
      header: { name: "x", kind: "real", blockSize: 64, partialTail: true },
      requests: [
        {
          arrivalMs: 5,
          promptTokens: 100,
          outputTokens: 2,
          blocks: [7, 8],
          session: "s",
          turn: 1,
          thinkMs: 3,
          tenant: "t",
          model: "m"
        },
        {
          arrivalMs: 5,
          promptTokens: 1,
          outputTokens: 1,
          blocks: [],
          session: undefined,
          turn: undefined,
          thinkMs: undefined,
          tenant: undefined,
          model: undefined
        }
      ]
    })
  })

  test("of any length is read up to a limit", () => {
    fc.assert(
      fc.property(fc.nat(60), fc.nat(60), (length, limit) => {
        expect(parsed(makeTrace(length), limit).requests).toHaveLength(Math.min(length, limit))
      }),
      { numRuns: 20 }
    )
  })

  test("states no limit that a request cannot carry, however long an answer was", () => {
    const read = parseTrace(textOf(header, { t: 0, in: 1, out: 2 ** 32 - 1 }))
    expect("trace" in read && read.trace.requests.map(limitOf)).toEqual([2 ** 32 - 1])
  })

  test.each([
    ["", ["1: there is nothing to read"]],
    ["{", [`1: must be ${FIRST_LINES}`]],
    [textOf({ ...header, format: "csv" }), ['1:format: must be "llm-trace/1"']],
    [textOf(header, { t: 1, in: 0, out: 1 }), ["2:in: must be a whole number from 1 to 4294967295"]],
    [textOf(header, { t: 1, in: 2 ** 32, out: 1 }), ["2:in: must be a whole number from 1 to 4294967295"]],
    [textOf({ ...header, blockSize: 0 }), ["1:blockSize: must be a whole number of at least 1, or null"]],
    [
      textOf(header, { t: -1, in: 1, out: 1.5 }),
      ["2:t: must be a whole number of at least 0", "2:out: must be a whole number from 1 to 4294967295"]
    ],
    [
      textOf(header, { t: 9, in: 1, out: 1 }, "", { t: 8, in: 1, out: 1 }),
      ["4:t: must not be before the line above it"]
    ],
    [
      textOf(header, { t: 1, in: 64, out: 1, blocks: [1, 2] }),
      ["2:blocks: must not be more than 64 prompt tokens fill"]
    ],
    [textOf(header, { t: 1, in: 64, out: 1, blocks: ["1"] }), ["2:blocks: must be a list of whole numbers"]],
    [
      textOf(header, { t: 1, in: 64, out: 1, tenant: "a b" }),
      ["2:tenant: must be 1 to 128 visible ASCII characters"]
    ],
    [textOf(header, { t: 1, in: 1, out: 1, think: -1 }), ["2:think: must be a number of at least 0"]],
    [textOf(header, { t: 1, in: 1, out: 1, think: "2 s" }), ["2:think: must be a number of at least 0"]],
    [textOf(header, { t: 1, in: 1, out: 1, turn: 0 }), ["2:turn: must be a whole number of at least 1"]],
    [textOf(header, "[1]"), ["2: must be a JSON object"]]
  ])("%j is refused with line and field", (text, problems) => {
    const found = parseTrace(text)
    expect("trace" in found ? [] : found.slice(0, problems.length)).toEqual(problems)
  })

  test("full of mistakes is refused with the first five", () => {
    const found = parseTrace(textOf(header, ...Array.from({ length: 1000 }, () => "x")))
    expect(found).toHaveLength(5)
  })

  const traces = "../shared/traces/traces"
  const recorded = ["azure-2023-conv", "mooncake-conversation-a", "agents-swe-a", "servegen-models-a"]
  if (!exists(traces)) console.log(`${traces} is not here: recorded traces are not read`)
  test.skipIf(!exists(traces)).each(recorded)("%s, as it was recorded, is read", async (name) => {
    const bytes = await Bun.file(join(root, traces, `${name}.jsonl.gz`)).bytes()
    const text = new TextDecoder().decode(Bun.gunzipSync(bytes))
    expect(parsed(text).requests).toHaveLength(JSON.parse(text.slice(0, text.indexOf("\n"))).requests)
  })
})

describe("a chain", () => {
  /** Prompts over few different tokens, so that long common prefixes are likely. */
  const prompt = fc
    .array(fc.tuple(fc.constantFrom(0, 1), fc.integer({ min: 1, max: 900 })), { maxLength: 4 })
    .map((runs) => runs.flatMap(([token, length]) => Array<number>(length).fill(token)))
  const common = (a: ArrayLike<unknown>, b: ArrayLike<unknown>): number => {
    let i = 0
    while (i < a.length && i < b.length && a[i] === b[i]) i++
    return i
  }
  /** The chains that recorded requests with these prompts have, in blocks of `blockSize`. */
  const chains = (prompts: ReadonlyArray<ReadonlyArray<number>>, blockSize: number) => {
    const ids = new Map<string, number>()
    return prompts.map((tokens) => {
      const blocks = Array.from({ length: Math.ceil(tokens.length / blockSize) }, (_, i) => {
        const upTo = tokens.slice(0, (i + 1) * blockSize).join("")
        return ids.get(upTo) ?? ids.set(upTo, ids.size).size - 1
      })
      const facts = { arrivalMs: 0, outputTokens: 1, session: undefined, tenant: undefined, model: undefined }
      const bytes = traceChain({ ...facts, promptTokens: tokens.length, blocks }, blockSize)
      expect(bytes.length).toBe(Math.floor(tokens.length / BLOCK_TOKENS) * 8)
      return Array.from({ length: bytes.length / 8 }, (_, i) =>
        Buffer.from(bytes.subarray(i * 8, i * 8 + 8)).toString("hex")
      )
    })
  }

  test.each([16, 64, 256, 512, 1000])(
    "of blocks of %d tokens says never more than is common, and at most a block of each kind less",
    (blockSize) => {
      fc.assert(
        fc.property(prompt, prompt, (a, b) => {
          const [first, second] = chains([a, b], blockSize)
          const equalTokens = common(a, b)
          const said = common(first!, second!) * BLOCK_TOKENS
          const known =
            equalTokens === a.length && a.length === b.length
              ? equalTokens
              : Math.floor(equalTokens / blockSize) * blockSize
          expect(said).toBeLessThanOrEqual(equalTokens)
          expect(said).toBe(Math.floor(known / BLOCK_TOKENS) * BLOCK_TOKENS)
        }),
        { numRuns: 50 }
      )
    }
  )

  test("tells blocks apart by all their bits", () => {
    const facts = { arrivalMs: 0, outputTokens: 1, session: undefined, tenant: undefined, model: undefined }
    const chainOf = (block: number): string =>
      Buffer.from(traceChain({ ...facts, promptTokens: 256, blocks: [block] }, 256)).toString("hex")
    const numbers = [5, 2 ** 32 + 5, 2 ** 33 + 5, 2 ** 52 + 5, 2 ** 52 + 6]
    expect(new Set(numbers.map(chainOf)).size).toBe(numbers.length)
  })

  test("is empty without blocks", () => {
    const facts = { arrivalMs: 0, outputTokens: 1, session: undefined, tenant: undefined, model: undefined }
    expect(traceChain({ ...facts, promptTokens: 1000, blocks: [] }, null)).toHaveLength(0)
  })
})
