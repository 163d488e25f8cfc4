import { readOwned } from "./cli/WorkerOptions.ts"
import { runMain } from "./cli/runMain.ts"

const args = process.argv.slice(2)
// A worker that a parent started reads no command line and no configuration: it starts in half the time without them.
const owned = args[0] === "worker" && args[1] === "--owned" ? readOwned(process.env) : undefined
if (owned === undefined) {
  const { commandLine } = await import("./cli/commandLine.ts")
  runMain(commandLine(args), { endless: ["cluster", "balancer", "worker"].includes(args[0] ?? "") })
} else {
  const { runWorker } = await import("./runWorker.ts")
  runMain(runWorker(owned), { endless: true, owned: true })
}
