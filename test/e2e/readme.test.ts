import { expect, test } from "bun:test"
import { run, spawn } from "../cluster/support/commands.ts"
import { root, sources } from "../support/repository.ts"

/** A fenced block of README.md. */
interface Fence {
  readonly language: string
  readonly text: string
}

const [readme] = sources("", /^README\.md$/)
const fences: ReadonlyArray<Fence> = [...readme!.text.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map((match) => ({
  language: match[1]!,
  text: match[2]!
}))

/** The first block of commands that begins like this, and the block behind it: what README says they print. */
const transcript = (begin: string): { readonly commands: string; readonly printed: string } => {
  const at = fences.findIndex(({ language, text }) => language === "sh" && text.startsWith(begin))
  const [commands, printed] = fences.slice(at, at + 2)
  expect(printed?.language).toBe("")
  return { commands: commands!.text, printed: printed!.text }
}

test("`simulate` prints the table that README shows", () => {
  const begin = "npx bun run simulate "
  const { commands, printed } = transcript(begin)
  const args = commands.replaceAll("\\\n", " ").slice(begin.length).trim().split(/\s+/)
  expect(spawn(["simulate", ...args])).toMatchObject({ exitCode: 0, out: printed })
}, 60_000)

test("`cluster` prints the lines that README shows, the ports aside", async () => {
  const { printed } = transcript("npm install && npm run cluster")
  const cluster = Bun.spawn(
    [process.execPath, "src/cluster/main.ts", "cluster", "--port", "0", "--http-port", "0"],
    { cwd: root, env: { PATH: "" }, stdin: "ignore", stdout: "pipe", stderr: "ignore" }
  )
  const decoder = new TextDecoder()
  let out = ""
  // Everything is printed at once, when the workers are ready; nothing follows it.
  for await (const bytes of cluster.stdout) {
    out += decoder.decode(bytes, { stream: true })
    cluster.kill("SIGINT")
  }
  expect(await cluster.exited).toBe(0)
  const { listen } = JSON.parse((await run(["config", "print"])).out)
  const free = /TCP .*:(\d+)\n.*HTTP .*:(\d+) /.exec(out)
  expect(
    out.replaceAll(`:${free?.[1]}`, `:${listen.port}`).replaceAll(`:${free?.[2]}`, `:${listen.httpPort}`)
  ).toBe(printed)
}, 30_000)
