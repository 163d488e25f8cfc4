import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import { assert } from "../structures/assert.ts"
import type { RecordedLine } from "./Recording.ts"

/** Where a recording is kept. */
export interface RecordDisk {
  /** Names of what is there. */
  readonly names: () => Promise<ReadonlyArray<string>>
  /** Begins a file; fails when there is one of this name. */
  readonly create: (name: string) => Promise<RecordFile>
  /** Of one that is gone already there is nothing to do. */
  readonly remove: (name: string) => Promise<void>
}

/** A file that is written from its start to its end. */
export interface RecordFile {
  /** Whether it still goes by its name, and has so many bytes: others may move, remove or empty files. */
  readonly isIntact: (bytes: number) => Promise<boolean>
  /** Writes all of it, or fails; then some of it may have been written. */
  readonly append: (text: string) => Promise<void>
  /** Takes off what lies behind so many bytes. */
  readonly cut: (bytes: number) => Promise<void>
  readonly close: () => Promise<void>
}

export interface RecordFilesOptions {
  readonly disk: RecordDisk
  /** Whose recordings share the directory, and the bound on files: a name of letters, digits, dots, dashes and underscores. */
  readonly family: string
  /** When the process was started, as 20261121T093000Z. Where there are later recordings, or one of this second, the second after those counts. */
  readonly stamp: string
  readonly fileBytesMax: number
  /** Files that are kept, the one that is written included. */
  readonly filesMax: number
  /** What the first line of every file says besides its name, part and offset. */
  readonly header: Readonly<Record<string, unknown>>
}

/** Smallest bound on the size of a file: a few of the longest lines there are. */
export const FILE_BYTES_MIN = 64 * 1024
/** Largest number in the name of a file: with more digits names would not tell which file is the oldest. */
const PART_MAX = 999_999
/** Written at once: longer texts would hold up the process while they are made. */
const CHUNK_BYTES = 256 * 1024

/** The file that is being written. */
interface Open {
  readonly name: string
  readonly file: RecordFile
  /** Times of its lines count from here. */
  readonly startMs: number
  bytes: number
  hasLines: boolean
}

/**
 * A recording in files of llm-trace/1 that follow each other: each is a trace by itself, whose times begin at 0, and none is longer than
 * `fileBytesMax`. Before a file is begun the oldest of the family are removed, so that there are never more than `filesMax`. After a
 * failure the file ends with the last line that was written whole, and the next line begins another one; so it does where somebody has
 * touched the file. Names tell which files are the oldest, so a recording is named after all that are there when it begins.
 */
export class RecordFiles {
  /** Lines in files. */
  lines = 0
  /** Files that have lines. */
  parts = 0
  private readonly options: RecordFilesOptions
  private readonly isOwn: RegExp
  private open: Open | undefined
  private firstMs = Number.NaN
  private stamp = ""
  /** Files that it was tried to begin under this stamp. */
  private tries = 0
  /** Files that were begun, and from when on they have requests: the last ones, as many as are kept. */
  private begun: Array<Pick<Open, "name" | "startMs">> = []
  /** The last write there is. */
  private writing: Promise<unknown> = Promise.resolve()

  constructor(options: RecordFilesOptions) {
    assert(options.fileBytesMax >= FILE_BYTES_MIN, "every line fits into a file")
    assert(options.filesMax >= 1, "there is a file to write to")
    this.options = options
    this.isOwn = new RegExp(`^${options.family.replaceAll(".", "\\.")}-\\d{8}T\\d{6}Z-\\d{6}\\.jsonl$`)
  }

  /** The file for a request that arrived then: undefined where no file was begun by then, or it has been removed since. */
  nameAt(arrivedMs: number): string | undefined {
    return this.begun.findLast(({ startMs }) => startMs <= arrivedMs)?.name
  }

  /** Writes lines behind all earlier ones. Gives what kept it from writing all of them, if something did. */
  write(lines: ReadonlyArray<RecordedLine>): Promise<unknown> {
    const written = this.writing.then(() => this.writeAll(lines))
    this.writing = written
    return written
  }

  /** Ends the file that is being written, after all that was to be written before. */
  close(): Promise<void> {
    const closed = this.writing.then(() => this.end().catch(() => undefined))
    this.writing = closed
    return closed
  }

  private async writeAll(lines: ReadonlyArray<RecordedLine>): Promise<unknown> {
    try {
      if (this.open !== undefined && !(await this.open.file.isIntact(this.open.bytes))) await this.end()
      await this.writeFrom(lines, 0)
      return undefined
    } catch (failure) {
      await this.giveUp()
      return failure
    }
  }

  private async writeFrom(lines: ReadonlyArray<RecordedLine>, from: number): Promise<void> {
    if (from === lines.length) return
    this.open ??= await this.begin(lines[from]!.arrivedMs)
    const { chunk, end } = this.chunkOf(this.open, lines, from)
    if (end === from) await this.end()
    else {
      await this.open.file.append(chunk)
      this.open.bytes += chunk.length
      if (!this.open.hasLines) this.parts++
      this.open.hasLines = true
      this.lines += end - from
    }
    await this.writeFrom(lines, end)
  }

  /** Text for the lines from `from` on, up to a chunk, or to what fits into the file. */
  private chunkOf(
    { bytes, startMs }: Open,
    lines: ReadonlyArray<RecordedLine>,
    from: number
  ): { readonly chunk: string; readonly end: number } {
    let chunk = ""
    let end = from
    while (end < lines.length && chunk.length < CHUNK_BYTES) {
      const { arrivedMs, text } = lines[end]!
      const line = `{"t":${Math.floor(arrivedMs - startMs)},${text}}\n`
      if (bytes + chunk.length + line.length > this.options.fileBytesMax) break
      chunk += line
      end++
    }
    return { chunk, end }
  }

  private async begin(startMs: number): Promise<Open> {
    const { disk, family, filesMax, header } = this.options
    if (Number.isNaN(this.firstMs)) this.firstMs = startMs
    const own = (await disk.names()).filter((name) => this.isOwn.test(name)).toSorted()
    await Promise.all(own.slice(0, Math.max(0, own.length - filesMax + 1)).map(disk.remove))
    if (this.parts === 0 || this.tries === PART_MAX) this.stamp = this.stampAfter(own.at(-1))
    if (this.tries === PART_MAX) this.tries = 0
    const part = ++this.tries
    const title = `${family}-${this.stamp}-${String(part).padStart(6, "0")}`
    const name = `${title}.jsonl`
    const open = { name, file: await disk.create(name), startMs, bytes: 0, hasLines: false }
    this.open = open
    this.begun = [...this.begun, open].slice(-filesMax)
    const about = { part, offsetMs: Math.floor(startMs - this.firstMs) }
    const text = `${JSON.stringify({ format: "llm-trace/1", name: title, ...header, ...about })}\n`
    await open.file.append(text)
    open.bytes = text.length
    return open
  }

  /** For a recording whose names come after that of the last file there is. */
  private stampAfter(latest: string | undefined): string {
    const { family, stamp } = this.options
    const last = latest?.slice(family.length + 1, family.length + 1 + stamp.length) ?? ""
    return last < stamp ? stamp : (secondAfter(last) ?? stamp)
  }

  private async end(): Promise<void> {
    const { open } = this
    this.open = undefined
    await open?.file.close()
  }

  /** After a failure: what can be saved of the file is. Without a line it goes, or tries without end would push out what is kept. */
  private async giveUp(): Promise<void> {
    const { open } = this
    this.open = undefined
    if (open === undefined) return
    const { bytes, file, hasLines, name } = open
    await file.cut(bytes).catch(() => undefined)
    await file.close().catch(() => undefined)
    if (hasLines) return
    this.begun.pop()
    await this.options.disk.remove(name).catch(() => undefined)
  }
}

/** A moment as 20261121T093000Z: in the order of these are the moments. */
export const stampOf = (moment: DateTime.DateTime): string =>
  DateTime.formatIso(moment).replaceAll(/[-:]|\.\d+/g, "")

/** Undefined where the stamp is that of no moment, or of the last there is. */
const secondAfter = (stamp: string): string | undefined => {
  const iso = stamp.replace(/^(....)(..)(..T..)(..)(..Z)$/, "$1-$2-$3:$4:$5")
  const next = Option.map(DateTime.make(iso), (moment) => stampOf(DateTime.add(moment, { seconds: 1 })))
  return Option.getOrUndefined(Option.filter(next, ({ length }) => length === stamp.length))
}
