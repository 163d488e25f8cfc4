import { expect, test } from "bun:test"
import { run, spawn } from "../cluster/support/commands.ts"
import { root, sources } from "../support/repository.ts"

/** A fenced block of a page. */
interface Fence {
  readonly language: string
  readonly text: string
}

const [readme] = sources("", /^README\.md$/)
const [guide] = sources("docs", /^docs\/README\.md$/)
const fencesOf = (text: string): ReadonlyArray<Fence> =>
  [...text.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map((match) => ({ language: match[1]!, text: match[2]! }))
const fences = fencesOf(readme!.text)

/** The first block of commands that begins like this, and the block behind it: what README says they print. */
const transcript = (begin: string): { readonly commands: string; readonly printed: string } => {
  const at = fences.findIndex(({ language, text }) => language === "sh" && text.startsWith(begin))
  const [commands, printed] = fences.slice(at, at + 2)
  expect(printed?.language).toBe("")
  return { commands: commands!.text, printed: printed!.text }
}

/** What follows `begin` in a command that may be written over several lines. */
const argumentsOf = (command: string, begin: string): ReadonlyArray<string> =>
  command.replaceAll("\\\n", " ").slice(begin.length).trim().split(/\s+/)

test("`simulate` prints the table that README shows", () => {
  const begin = "npx bun run simulate "
  const { commands, printed } = transcript(begin)
  expect(spawn(["simulate", ...argumentsOf(commands, begin)])).toMatchObject({ exitCode: 0, out: printed })
}, 60_000)

test("the policies of the first page come out as its table says", () => {
  const begin = "bun run simulate "
  const command = fencesOf(guide!.text).find(({ text }) => text.startsWith(begin))
  const { out } = spawn(["simulate", ...argumentsOf(command!.text, begin), "--json"])
  const { results } = JSON.parse(out) as {
    readonly results: ReadonlyArray<Readonly<Record<"goodput" | "ttftMsMean", { readonly mean: number }>>>
  }
  const said = [...guide!.text.matchAll(/\| +([\d.]+ %) \| +([\d,]+ ms) \|$/gm)].map(([, ...cells]) => cells)
  expect(said).toEqual(
    results.map(({ goodput, ttftMsMean }) => [
      `${(100 * goodput.mean).toFixed(1)} %`,
      `${Math.round(ttftMsMean.mean).toLocaleString("en")} ms`
    ])
  )
}, 60_000)

test("`cluster`, and a client and curl beside it, print the lines that README shows: ports, times, names and words aside", async () => {
  const cluster = Bun.spawn(
    [process.execPath, "src/cluster/main.ts", "cluster", "--port", "0", "--http-port", "0"],
    { cwd: root, env: { PATH: "" }, stdin: "ignore", stdout: "pipe", stderr: "ignore" }
  )
  const decoder = new TextDecoder()
  let out = ""
  let answers = ""
  // Everything is printed at once, when the workers are ready; nothing follows it.
  for await (const bytes of cluster.stdout) {
    out += decoder.decode(bytes, { stream: true })
    answers += await answersOf(portsIn(out))
    cluster.kill("SIGINT")
  }
  expect(await cluster.exited).toBe(0)
  const { listen } = JSON.parse((await run(["config", "print"])).out)
  const { tcp, http } = portsIn(out)
  expect(out.replaceAll(`:${tcp}`, `:${listen.port}`).replaceAll(`:${http}`, `:${listen.httpPort}`)).toBe(
    transcript("npm install && npm run cluster").printed
  )
  expect(shapeOf(answers)).toBe(shapeOf(besides.printed))
}, 30_000)

interface Ports {
  readonly tcp: string
  readonly http: string
}

const portsIn = (out: string): Ports => {
  const [, tcp = "", http = ""] = /TCP .*:(\d+)\n.*HTTP .*:(\d+) /.exec(out) ?? []
  return { tcp, http }
}

const besides = transcript("npx bun run client ")

/** What the commands of README's second block print at these ports. */
const answersOf = async ({ tcp, http }: Ports): Promise<string> => {
  const [, maxTokens = "", prompt = ""] = /client --max-tokens (\d+) "(.*)"/.exec(besides.commands) ?? []
  const [, path = "", body = ""] = /curl -sN http:\/\/[\d.:]+(\/\w+) -d '(.*)'/.exec(besides.commands) ?? []
  const client = await run(["client", "--address", `127.0.0.1:${tcp}`, "--max-tokens", maxTokens, prompt])
  const curl = await fetch(`http://127.0.0.1:${http}${path}`, { method: "POST", body })
  return `${client.out}${client.err}\n${await curl.text()}`
}

/** Without what no two runs have in common. The last document is cut short in README. */
const shapeOf = (printed: string): string =>
  printed
    .trim()
    .replace(/^[a-z ]+$/m, (words) => `${words.split(" ").length} words`)
    .replaceAll(/"text":" ?[a-z]+"/g, '"text":"a word"')
    .replaceAll(/\d+\.\d+ ms/g, "some ms")
    .replaceAll(/sim-\d/g, "a worker")
    .replace(/request [0-9a-f]{16}$/m, "an id")
    .replace(/("worker":"a worker",).*\}/, "$1…}")
