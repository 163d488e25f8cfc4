/*
 * Does the default pipeline serve more requests in time than anybody else's policy does, on real traffic, and how far is that from what is possible?
 *
 * `bun run bench:compare` · every preset, every placement in the default pipeline, and every rival there and with nothing but bounds on the queue, over five public traces, two
 * engines, two numbers of workers and four loads; and the default with every rival in cells that are held out: on traffic, engines and a
 * number of workers that no parameter is chosen on, and in cells with little to do. A load is a share of the time that the workers would need if every block were computed
 * once and every step were full. Each seed is another window of the trace; our other presets and placements have the first one alone. A cell
 * whose result was kept, from this commit and with as many requests and seeds, is not replayed again. Results go to `bench/results/compare.json`, where
 * `bun run docs` finds them, unless `--quick` or `--limit` makes them worth less; the tables of all cells are printed at the end.
 */
import * as DateTime from "effect/DateTime"
import { join } from "node:path"
import { type Cell, cells, type Extent, extents, groups, nameOf } from "./compare/cells.ts"
import { cellTable, tally } from "./compare/report.ts"
import { type KeptCell, readResults, writeResults } from "./compare/results.ts"
import { type CellResult, others, rivalry, runCell, targets, WARM_UP } from "./compare/runCell.ts"
import { missingFrom, traceOf } from "./compare/traffic.ts"
import { inner, onOff, readFlags, text, whole } from "./flags.ts"
import { machine } from "./machine.ts"
import { aligned } from "./table.ts"

const flags = readFlags({
  only: text("parts of the names of cells, as mooncake,8x8b-h100; by default all cells", "PART,…", undefined),
  seeds: whole("windows of each trace", 3),
  limit: whole("most requests of a window; by default as many as the cell has", undefined),
  rivals: onOff("leave our other presets and placements out"),
  quick: onOff("--rivals with one seed, and keep no results"),
  fresh: onOff("replay what was kept again"),
  processes: whole("processes that replay side by side", 2),
  traces: text("directory of the traces", "DIRECTORY", join(import.meta.dir, "../../shared/traces/traces")),
  /** Of a process that replays one cell. */
  cell: inner
})

/** A cell to replay, as its process is told. */
interface Task {
  readonly cell: Cell
  readonly extent: Extent
  readonly seeds: number
  readonly rivalsOnly: boolean
}

const replayOne = async ({ cell, extent, rivalsOnly, seeds }: Task): Promise<CellResult> => {
  const trace = await traceOf(cell.trace, flags.traces)
  return runCell(cell, trace, { extent, seeds }, [rivalry(), rivalsOnly ? [] : others()])
}

const inProcess = async (task: Task): Promise<CellResult> => {
  const command = [
    process.execPath,
    import.meta.path,
    "--traces",
    flags.traces,
    "--cell",
    JSON.stringify(task)
  ]
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" })
  return JSON.parse(await new Response(child.stdout).text()) as CellResult
}

const main = async (): Promise<void> => {
  const { commit, cpu, cores, os, bun } = machine()
  const isKept = !flags.quick && flags.limit === undefined
  const seeds = flags.quick ? 1 : flags.seeds
  const parts = (flags.only ?? "").split(",").map((part) => part.replace("x", "×"))
  const tasks: Array<Task> = []
  const kept: Record<string, KeptCell> = isKept ? { ...readResults().cells } : {}
  const results = { machine: { cpu, cores, os, bun }, targets, warmUp: WARM_UP, cells: kept }
  const chosen = Object.values(groups)
    .flat()
    .filter((cell) => parts.some((part) => nameOf(cell).includes(part)))
  if (chosen.length === 0) {
    console.error(`--only ${flags.only}: no cell has that in its name. One is called "${nameOf(cells[0]!)}".`)
    process.exit(2)
  }
  for (const cell of chosen) {
    const name = nameOf(cell)
    const { copies, requests } = extents[cell.trace]!
    const extent = { copies, requests: Math.min(requests, flags.limit ?? requests) }
    const known = kept[name]
    const isKnown =
      known?.commit === commit && known.seeds === seeds && known.extent.requests === extent.requests
    const missing = missingFrom(cell.trace, flags.traces)
    if (missing !== undefined) console.error(`${name}: left out, there is no ${missing}`)
    else if (!isKnown || flags.fresh)
      tasks.push({
        cell,
        extent,
        seeds,
        rivalsOnly: flags.rivals || flags.quick || !cells.includes(cell)
      })
  }
  let [next, done] = [0, 0]
  const work = async (): Promise<void> => {
    for (let task = tasks[next++]; task !== undefined; task = tasks[next++]) {
      const { cell, extent } = task
      const startedMs = performance.now()
      const result = await inProcess(task)
      kept[nameOf(cell)] = {
        commit,
        date: DateTime.formatIsoDateUtc(DateTime.nowUnsafe()),
        extent,
        seeds,
        ...result
      }
      if (isKept) writeResults(results)
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(0)
      console.error(`${++done}/${tasks.length} ${nameOf(cell)}: ${seconds} s`)
    }
  }
  await Promise.all(Array.from({ length: flags.processes }, work))
  for (const listed of Object.values(groups).filter((each) => each.some((cell) => nameOf(cell) in kept)))
    console.log(`${aligned(cellTable(results, listed), 2)}\n\n${tally(results, listed)}\n`)
}

if (flags.cell === undefined) await main()
else console.log(JSON.stringify(await replayOne(JSON.parse(flags.cell) as Task)))
