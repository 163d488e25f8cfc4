import { constants } from "node:fs"
import { access, mkdir, open, readdir, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import type { RecordDisk } from "./RecordFiles.ts"

/** A directory, which is made when it is first looked at. Files can be read by their owner alone. */
export const recordDisk = (directory: string): RecordDisk => ({
  names: async () => {
    await mkdir(directory, { recursive: true })
    await access(directory, constants.W_OK)
    return readdir(directory)
  },
  create: async (name) => {
    const path = join(directory, name)
    const handle = await open(path, "wx", 0o600)
    return {
      isIntact: async (bytes) => {
        const [own, found] = await Promise.all([handle.stat(), stat(path).catch(() => undefined)])
        return found?.ino === own.ino && found.dev === own.dev && own.size === bytes
      },
      append: (text) => handle.appendFile(text),
      cut: (bytes) => handle.truncate(bytes),
      close: () => handle.close()
    }
  },
  remove: (name) => rm(join(directory, name), { force: true })
})
