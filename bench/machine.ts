import { cpus, loadavg, release } from "node:os"

/** What a figure was measured on, and what it measured. */
export const machine = () => {
  const git = (...args: ReadonlyArray<string>): string =>
    Bun.spawnSync(["git", ...args], { cwd: import.meta.dir })
      .stdout.toString()
      .trim()
  const changed = git("status", "--porcelain", "--untracked-files=no") !== ""
  return {
    cpu: cpus()[0]?.model ?? "unknown CPU",
    cores: cpus().length,
    os: `${process.platform} ${release()}`,
    bun: Bun.version,
    commit: `${git("rev-parse", "--short", "HEAD") || "none"}${changed ? " with changes" : ""}`,
    loadAverage: loadavg()[0]!.toFixed(1)
  }
}

/** The same in one line. */
export const machineText = ({
  bun,
  commit,
  cores,
  cpu,
  loadAverage,
  os
}: ReturnType<typeof machine>): string =>
  `${cpu}, ${cores} cores · ${os} · Bun ${bun} · commit ${commit} · load average ${loadAverage}`
