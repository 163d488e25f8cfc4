import { readFileSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Extent } from "./cells.ts"
import type { CellResult } from "./runCell.ts"

/** A cell that was replayed: with what, and what came of it. */
export interface KeptCell extends CellResult {
  readonly commit: string
  readonly date: string
  readonly extent: Extent
  readonly seeds: number
}

/** All that is kept, by the names of the cells. */
export interface Results {
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly os: string
    readonly bun: string
  }
  readonly targets: { readonly ttftMs: number; readonly tpotMs: number }
  readonly warmUp: number
  readonly cells: Readonly<Record<string, KeptCell>>
}

const path = join(import.meta.dir, "..", "results", "compare.json")

/** What is kept in the repository. */
export const readResults = (): Results => JSON.parse(readFileSync(path, "utf8")) as Results

/** A line for each cell, so that a difference can be read. The file is whole at any time. */
export const writeResults = ({ cells, ...about }: Results): void => {
  const lines = Object.entries(cells).map(
    ([name, cell]) => `    ${JSON.stringify(name)}: ${JSON.stringify(cell)}`
  )
  const head = JSON.stringify(about, undefined, 2).slice(0, -2)
  writeFileSync(`${path}.next`, `${head},\n  "cells": {\n${lines.join(",\n")}\n  }\n}\n`)
  renameSync(`${path}.next`, path)
}
