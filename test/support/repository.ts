import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"

/** One file of the repository: its path from the root, with forward slashes, and its text. */
export interface Source {
  readonly path: string
  readonly text: string
}

/** Where the repository lies on this machine. */
export const root = join(import.meta.dir, "../..")

/** What a tool wrote or installed. */
const generated = new Set(["node_modules", "dist", "package-lock.json", "bun.lock"])

/**
 * The files in `folder` (from the root; "" is the root) and below it whose path matches `pattern`, in alphabetical order.
 * Leaves out what is generated, hidden folders except `.ci`, and symbolic links. An absent folder has no files.
 */
export const sources = (folder: string, pattern: RegExp): ReadonlyArray<Source> =>
  paths(folder)
    .filter((path) => pattern.test(path))
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }))

/** Whether the repository has this file or folder. */
export const exists = (path: string): boolean => existsSync(join(root, path))

const paths = (folder: string): ReadonlyArray<string> => {
  if (!exists(folder)) return []
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => !generated.has(entry.name) && (!entry.name.startsWith(".") || entry.name === ".ci"))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) return paths(path)
      return entry.isFile() && statSync(join(root, path)).size < sizeMax ? [path] : []
    })
}

/** Bytes; a larger file is data, not text that someone wrote. */
const sizeMax = 1 << 20
