import { readOwned } from "./cli/WorkerOptions.ts"
import { runMain } from "./cli/runMain.ts"

/** Run until they are interrupted. */
const ENDLESS = ["cluster", "balancer", "worker"]
/** Have connections or processes to end. */
const ORDERLY = [...ENDLESS, "client", "replay-live"]

const args = process.argv.slice(2)
// A worker that a parent started reads no command line and no configuration: it starts in half the time without them.
const owned = args[0] === "worker" && args[1] === "--owned" ? readOwned(process.env) : undefined
if (owned === undefined) {
  const { commandLine } = await import("./cli/commandLine.ts")
  const [name = ""] = args
  runMain(commandLine(args), { endless: ENDLESS.includes(name), orderly: ORDERLY.includes(name) })
} else {
  const { runWorker } = await import("./runWorker.ts")
  runMain(runWorker(owned), { endless: true, orderly: true, owned: true })
}
