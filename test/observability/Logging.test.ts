import { describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import fc from "fast-check"
import { logging, type LoggingOptions } from "../../src/observability/Logging.ts"

const lines = (
  options: Omit<LoggingOptions, "write">,
  program: Effect.Effect<void>
): ReadonlyArray<string> => {
  const written: Array<string> = []
  Effect.runSync(
    program.pipe(Effect.provide(logging({ ...options, write: (line) => void written.push(line) })))
  )
  return written
}

describe("logging", () => {
  test("text is logfmt with its annotations", () => {
    const [line] = lines(
      { level: "info", format: "text" },
      Effect.logInfo("a worker joined").pipe(Effect.annotateLogs({ worker: "w1" }))
    )
    expect(line).toMatch(/^timestamp=\S+ level=INFO fiber=\S+ message="a worker joined" worker=w1\n$/)
  })

  test("json is one object with its annotations", () => {
    const [line] = lines(
      { level: "info", format: "json" },
      Effect.logWarning("late").pipe(Effect.annotateLogs({ worker: "w1" }))
    )
    expect(JSON.parse(line!)).toMatchObject({ level: "WARN", message: "late", annotations: { worker: "w1" } })
  })

  test.each([
    ["debug", 4],
    ["info", 3],
    ["warn", 2],
    ["error", 1],
    ["none", 0]
  ] as const)("level %s", (level, count) => {
    const all = Effect.all([
      Effect.logDebug("a"),
      Effect.logInfo("b"),
      Effect.logWarning("c"),
      Effect.logError("d")
    ])
    expect(lines({ level, format: "text" }, Effect.asVoid(all)).length).toBe(count)
  })

  test("an entry is one line whatever is in it", () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        fc.constantFrom("text" as const, "json" as const),
        (message, value, format) => {
          const written = lines(
            { level: "info", format },
            Effect.logInfo(`${message}\n`).pipe(Effect.annotateLogs({ key: value }))
          )
          expect(written.length).toBe(1)
          expect(written[0]!.split("\n").length).toBe(2)
        }
      )
    )
  })

  test.each(["text", "json"] as const)("as %s, nothing that is quoted can command a terminal", (format) => {
    const said = "\u001b[2J\u007f\u0085\u009b2J\u2028\u2029"
    const [line] = lines(
      { level: "info", format },
      Effect.logInfo(`gone: ${said}`).pipe(Effect.annotateLogs({ key: said }))
    )
    expect(line).toMatch(/^[\x20-\x7e]+\n$/)
    if (format === "json") {
      const { annotations, message } = JSON.parse(line!)
      expect([message, annotations.key]).toEqual([`gone: ${said}`, said])
    }
  })
})
