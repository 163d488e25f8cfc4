import { expect, test } from "bun:test"
import * as fc from "fast-check"
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import {
  FILE_BYTES_MIN,
  type RecordDisk,
  RecordFiles,
  type RecordFilesOptions
} from "../../src/observability/RecordFiles.ts"
import { recordDisk } from "../../src/observability/recordDisk.ts"
import type { RecordedLine } from "../../src/observability/Recording.ts"

type Subject = (options: RecordFilesOptions) => RecordFiles

/** A directory in memory. Each operation may fail as the next of `troubles` says; a write that fails has done a part of its work. */
class MemoryDisk implements RecordDisk {
  readonly files = new Map<string, string>()
  /** To begin a file. */
  tries = 0
  /** Called after each change. */
  changed = (): void => undefined
  private readonly troubles: Iterator<boolean>

  constructor(troubles: ReadonlyArray<boolean>) {
    this.troubles = troubles.values()
  }

  private mayFail(): boolean {
    return this.troubles.next().value === true
  }

  readonly names = async (): Promise<ReadonlyArray<string>> => [...this.files.keys()]

  readonly create = async (name: string) => {
    this.tries++
    if (this.mayFail() || this.files.has(name)) throw new Error("no")
    const write = (text: string): void => {
      this.files.set(name, text)
      this.changed()
    }
    write("")
    return {
      isIntact: async (bytes: number) => this.files.get(name)?.length === bytes,
      append: async (text: string) => {
        const isBroken = this.mayFail()
        write(this.files.get(name)! + text.slice(0, isBroken ? text.length >> 1 : text.length))
        if (isBroken) throw new Error("full")
      },
      cut: async (bytes: number) => write(this.files.get(name)!.slice(0, bytes)),
      close: async () => undefined
    }
  }

  readonly remove = async (name: string) => {
    if (this.mayFail()) throw new Error("no")
    this.files.delete(name)
    this.changed()
  }
}

const foreign = ["a-b-20260101T000000Z-000001.jsonl", "a-20260101T000000Z-000001.jsonl.gz", "notes.txt"]

interface Run {
  readonly batches: ReadonlyArray<ReadonlyArray<number>>
  readonly troubles: ReadonlyArray<boolean>
  readonly filesMax: number
  /** Files that an earlier process left. */
  readonly before: number
}
const runs: fc.Arbitrary<Run> = fc.record({
  /** The length of each line. */
  batches: fc.array(fc.array(fc.constantFrom(20, 900, 9_000, 45_000), { maxLength: 5 }), { maxLength: 7 }),
  troubles: fc.array(
    fc.nat(9).map((roll) => roll === 0),
    { maxLength: 30 }
  ),
  filesMax: fc.integer({ min: 1, max: 4 }),
  before: fc.nat(5)
})

/** What was written, batch by batch, and all that there was in the directory after each change. */
const play = async (make: Subject, { batches, before, filesMax, troubles }: Run) => {
  const disk = new MemoryDisk(troubles)
  for (const name of foreign) disk.files.set(name, "mine")
  for (let i = 0; i < before; i++) disk.files.set(`a-20260101T000000Z-00000${i}.jsonl`, "x".repeat(100))
  const seen: Array<{ readonly count: number; readonly largest: number }> = []
  const own = (): ReadonlyArray<string> => [...disk.files.keys()].filter((name) => !foreign.includes(name))
  disk.changed = () =>
    seen.push({
      count: own().length,
      largest: Math.max(0, ...own().map((name) => disk.files.get(name)!.length))
    })
  const files = make({
    disk,
    family: "a",
    stamp: "20260102T000000Z",
    fileBytesMax: FILE_BYTES_MIN,
    filesMax,
    header
  })
  let atMs = 50.5
  const lines = batches.map((lengths) =>
    lengths.map((length): RecordedLine => {
      atMs += 3.25
      return {
        arrivedMs: atMs,
        text: `"in":1,"out":${atMs},"pad":"${"x".repeat(length)}"`.replace(/\.\d*/, "")
      }
    })
  )
  // The writes are asked for at once: each has to wait for those before.
  const failures = await Promise.all(lines.map((batch) => files.write(batch)))
  await files.close()
  return { disk, files, lines, failures, seen, own: own() }
}
const header = { kind: "real", blockSize: null, partialTail: false }

const checked = (
  make: Subject,
  check: (played: Awaited<ReturnType<typeof play>>, run: Run) => void
): Promise<void> =>
  fc.assert(
    fc.asyncProperty(runs, async (run) => check(await play(make, run), run)),
    { numRuns: 300 }
  )

const laws = [
  {
    id: "record-bounded",
    check: (make: Subject) =>
      checked(make, ({ disk, seen }, { before, filesMax }) => {
        for (const { count, largest } of seen) {
          expect(count).toBeLessThanOrEqual(Math.max(filesMax, before))
          expect(largest).toBeLessThanOrEqual(FILE_BYTES_MIN)
        }
        // From the first file on there are no more than may be.
        const first = seen.findIndex(({ largest }) => largest > 100)
        for (const { count } of first < 0 ? [] : seen.slice(first))
          expect(count).toBeLessThanOrEqual(filesMax)
        for (const name of foreign) expect(disk.files.get(name)).toBe("mine")
      })
  },
  {
    id: "record-whole",
    check: (make: Subject) =>
      checked(make, ({ disk, own }) => {
        for (const name of own.filter((each) => each.startsWith("a-20260102"))) {
          const text = disk.files.get(name)!
          if (text === "") continue
          expect(text).toEndWith("\n")
          const found = parseTrace(text)
          expect("trace" in found ? [] : found).toEqual([])
          if (!("trace" in found)) continue
          expect(found.trace.header.name).toBe(name.replace(".jsonl", ""))
          expect(found.trace.requests[0]?.arrivalMs ?? 0).toBe(0)
        }
      })
  },
  {
    id: "record-complete",
    check: (make: Subject) =>
      checked(make, ({ disk, failures, files, lines, own }, { filesMax }) => {
        const written = own
          .filter((name) => name.startsWith("a-20260102"))
          .toSorted()
          .flatMap((name) => disk.files.get(name)!.split("\n").slice(1, -1))
          .map((line) => Number(/"out":(\d+)/.exec(line)![1]))
        const expected = lines.map((batch) => batch.map(({ text }) => Number(/"out":(\d+)/.exec(text)![1])))
        const all = expected.flat()
        // What is there stands in the order in which it was given, once.
        expect(written).toEqual(all.filter((each) => written.includes(each)))
        // Each is found where it is said to be.
        const isIn = ({ arrivedMs, text }: RecordedLine): boolean =>
          disk.files.get(files.nameAt(arrivedMs) ?? "")?.includes(`,${text}}\n`) === true
        for (const line of lines.flat())
          if (written.includes(Number(/"out":(\d+)/.exec(line.text)![1]))) expect(isIn(line)).toBe(true)
        if (disk.tries > filesMax) return
        expect(written.length).toBe(files.lines)
        // A batch that did not fail is all there; of one that did, the beginning.
        for (const [i, batch] of expected.entries()) {
          const there = batch.filter((each) => written.includes(each))
          expect(there).toEqual(batch.slice(0, there.length))
          if (failures[i] === undefined) expect(there.length).toBe(batch.length)
        }
      })
  },
  {
    id: "record-spares",
    check: (make: Subject) =>
      fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 2, max: 4 }),
          fc.integer({ min: 1, max: 9 }),
          async (filesMax, tries) => {
            // Files can be begun, and nothing be written into them.
            const full = Array.from({ length: 2 * tries }, (_, i) => i % 2 === 1)
            const batches = Array.from({ length: tries }, () => [20])
            const run = { batches, before: filesMax - 1, filesMax, troubles: full }
            const { files, own } = await play(make, run)
            expect(files.parts).toBe(0)
            expect(own.filter((name) => name.startsWith("a-20260101"))).toHaveLength(filesMax - 1)
            expect(own).toHaveLength(filesMax - 1)
          }
        ),
        { numRuns: 50 }
      )
  },
  {
    id: "record-newest",
    check: (make: Subject) =>
      fc.assert(
        fc.asyncProperty(
          fc.constantFrom("20251231T235959Z", "20260102T000000Z", "20260228T235959Z", "20271231T235959Z"),
          fc.integer({ min: 1, max: 4 }),
          fc.integer({ min: 1, max: 6 }),
          async (stamp, filesMax, count) => {
            const disk = new MemoryDisk([])
            const before = Array.from({ length: filesMax }, (_, i) => `a-${stamp}-00000${i + 1}.jsonl`)
            for (const name of before) disk.files.set(name, "x")
            const made = make({
              disk,
              family: "a",
              stamp: "20260102T000000Z",
              fileBytesMax: FILE_BYTES_MIN,
              filesMax,
              header
            })
            for (let i = 1; i <= count; i++) {
              const line = { arrivedMs: i, text: `"in":1,"out":${i},"pad":"${"x".repeat(60_000)}"` }
              expect(await made.write([line])).toBeUndefined()
            }
            await made.close()
            // What a later process, and `ls`, take for the last files are those that were written last.
            const names = [...disk.files.keys()].toSorted()
            const outs = names.map((name) => /"out":(\d+)/.exec(disk.files.get(name)!)?.[1])
            const kept = Array.from({ length: count }, (_, i) => String(i + 1)).slice(-filesMax)
            expect(outs.filter((out) => out !== undefined)).toEqual(kept)
            expect(outs.slice(-kept.length)).toEqual(kept)
          }
        ),
        { numRuns: 100 }
      )
  },
  {
    id: "record-touched",
    check: (make: Subject) =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.constantFrom(...touches), { maxLength: 6 }), async (between) => {
          const top = mkdtempSync(join(tmpdir(), "record-files-"))
          const directory = join(top, "here")
          const made = make({
            disk: recordDisk(directory),
            family: "a",
            stamp: "20260102T000000Z",
            fileBytesMax: FILE_BYTES_MIN,
            filesMax: 20,
            header
          })
          let out = 0
          const batch = (): ReadonlyArray<RecordedLine> =>
            [1, 2].map(() => ({ arrivedMs: ++out, text: `"in":1,"out":${out}` }))
          try {
            await made.write(batch())
            for (const touch of between) {
              touch(directory, latestIn(directory))
              expect(await made.write(batch())).toBeUndefined()
              const last = latestIn(directory)
              expect(last).not.toBe("")
              const found = parseTrace(readFileSync(join(directory, last), "utf8"))
              expect("trace" in found ? [] : found).toEqual([])
              // What was written just now is there.
              if ("trace" in found)
                expect(found.trace.requests.slice(-2).map(({ outputTokens }) => outputTokens)).toEqual([
                  out - 1,
                  out
                ])
            }
          } finally {
            await made.close()
            rmSync(top, { recursive: true })
          }
        }),
        { numRuns: 40 }
      )
  },
  {
    id: "record-without-trouble",
    check: (make: Subject) =>
      fc.assert(
        fc.asyncProperty(runs, async (run) => {
          const { failures, files, lines } = await play(make, { ...run, troubles: [] })
          expect(failures.filter((failure) => failure !== undefined)).toEqual([])
          expect(files.lines).toBe(lines.flat().length)
        }),
        { numRuns: 100 }
      )
  }
]

/** What others do to the file that is written. */
const touches: ReadonlyArray<(directory: string, name: string) => void> = [
  () => undefined,
  (directory, name) => rmSync(join(directory, name)),
  (directory, name) => renameSync(join(directory, name), join(directory, `${name}.1`)),
  (directory, name) => truncateSync(join(directory, name)),
  (directory, name) => appendFileSync(join(directory, name), "not a request\n"),
  (directory, name) => {
    const path = join(directory, name)
    const text = readFileSync(path)
    rmSync(path)
    writeFileSync(path, text)
  },
  (directory, name) => chmodSync(join(directory, name), 0o400),
  (directory) => rmSync(directory, { recursive: true }),
  (directory) => {
    renameSync(directory, `${directory}-${readdirSync(join(directory, "..")).length}`)
    mkdirSync(directory)
  }
]

/** The last recorded file by name; "" for none. */
const latestIn = (directory: string): string =>
  (existsSync(directory) ? readdirSync(directory) : [])
    .toSorted()
    .findLast((name) => name.endsWith(".jsonl")) ?? ""

const files: Subject = (options) => new RecordFiles(options)

const withDisk =
  (change: (disk: RecordDisk) => Partial<RecordDisk>): Subject =>
  (options) =>
    new RecordFiles({ ...options, disk: { ...options.disk, ...change(options.disk) } })

const defects: ReadonlyArray<readonly [defect: string, law: string, subject: Subject]> = [
  [
    "keeps one file too many",
    "record-bounded",
    (options) => new RecordFiles({ ...options, filesMax: options.filesMax + 1 })
  ],
  [
    "lets files grow",
    "record-bounded",
    (options) => new RecordFiles({ ...options, fileBytesMax: 3 * FILE_BYTES_MIN })
  ],
  [
    "removes what is not its own",
    "record-bounded",
    (options) => {
      const made = new RecordFiles(options)
      Object.assign(made, { isOwn: /jsonl/ })
      return made
    }
  ],
  [
    "leaves half a line behind",
    "record-whole",
    withDisk((disk) => ({
      create: async (name) => ({ ...(await disk.create(name)), cut: async () => undefined })
    }))
  ],
  [
    "counts the time on from file to file",
    "record-whole",
    (options) => {
      const made = new RecordFiles(options)
      Object.assign(made, { chunkOf: alwaysFromZero(made) })
      return made
    }
  ],
  [
    "writes at the same time",
    "record-complete",
    (options) => {
      const made = new RecordFiles(options)
      made.write = (lines) => {
        Object.assign(made, { writing: Promise.resolve() })
        return RecordFiles.prototype.write.call(made, lines)
      }
      return made
    }
  ],
  [
    "says that all is in the last file",
    "record-complete",
    (options) => {
      const made = new RecordFiles(options)
      made.nameAt = () => RecordFiles.prototype.nameAt.call(made, Number.POSITIVE_INFINITY)
      return made
    }
  ],
  [
    "forgets what failed",
    "record-complete",
    (options) => {
      const made = new RecordFiles(options)
      made.write = (lines) => RecordFiles.prototype.write.call(made, lines).then(() => undefined)
      return made
    }
  ],
  [
    "leaves a file at each try",
    "record-spares",
    (options) => {
      const made = new RecordFiles(options)
      Object.assign(made, { giveUp: async () => Object.assign(made, { open: undefined }) })
      return made
    }
  ],
  [
    "believes the clock",
    "record-newest",
    (options) => Object.assign(new RecordFiles(options), { stampAfter: () => options.stamp })
  ],
  [
    "counts files that came to nothing",
    "record-spares",
    (options) => {
      const made = new RecordFiles(options)
      return Object.defineProperty(made, "parts", {
        get: () => (made as unknown as { tries: number }).tries
      })
    }
  ],
  [
    "looks for its file once",
    "record-touched",
    withDisk((disk) => ({
      create: async (name) => ({ ...(await disk.create(name)), isIntact: async () => true })
    }))
  ],
  [
    "looks at the name alone",
    "record-touched",
    withDisk((disk) => ({
      create: async (name) => ({
        ...(await disk.create(name)),
        isIntact: async () => (await disk.names()).includes(name)
      })
    }))
  ],
  [
    "fails for nothing",
    "record-without-trouble",
    withDisk((disk) => ({
      create: (name) => (name.endsWith("2.jsonl") ? Promise.reject(new Error("no")) : disk.create(name))
    }))
  ]
]

/** Times of lines as if the file had begun with the process. */
const alwaysFromZero = (made: RecordFiles): unknown => {
  const { chunkOf } = made as unknown as {
    readonly chunkOf: (open: object, ...rest: ReadonlyArray<unknown>) => unknown
  }
  return (open: object, ...rest: ReadonlyArray<unknown>) =>
    chunkOf.call(made, { ...open, startMs: 0 }, ...rest)
}

test.each(laws.map((law) => [law.id, law] as const))("%s", (_, law) => law.check(files))

test.each(defects)("planted: %s: %s finds it", async (_, id, subject) => {
  const law = laws.find((each) => each.id === id)!
  const error: unknown = await law.check(subject).catch((thrown: unknown) => thrown)
  expect(error instanceof Error && error.cause instanceof Error ? error.cause.message : error).toStartWith(
    "expect("
  )
})

test("every law finds some planted defect", () => {
  expect(laws.map((law) => law.id).filter((id) => !defects.some(([, finds]) => finds === id))).toEqual([])
})

test("a file that somebody has removed meanwhile is no trouble to who wants to remove it", async () => {
  const directory = mkdtempSync(join(tmpdir(), "record-files-"))
  await recordDisk(directory).remove("a-20260101T000000Z-000001.jsonl")
  rmSync(directory, { recursive: true })
})

test("after a million files names still tell which is the oldest", async () => {
  const disk = new MemoryDisk([])
  const files = new RecordFiles({
    disk,
    family: "a",
    stamp: "20261121T093000Z",
    fileBytesMax: FILE_BYTES_MIN,
    filesMax: 2,
    header: {}
  })
  // One fits into a file.
  const line = { arrivedMs: 0, text: `"in":1,"out":1,"x":"${"y".repeat(40_000)}"` }
  await files.write([line])
  // To begin all files before takes seconds.
  Object.assign(files, { tries: 999_998 })
  await files.write([line, line, line])
  expect([...disk.files.keys()]).toEqual([
    "a-20261121T093001Z-000001.jsonl",
    "a-20261121T093001Z-000002.jsonl"
  ])
})
