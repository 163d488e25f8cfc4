import { aligned as lines } from "../src/structures/aligned.ts"

export type Table = ReadonlyArray<ReadonlyArray<string>>

/** A table for people, the first `leftCount` columns to the left. */
export const aligned = (table: Table, leftCount = 2): string => lines(table, "  ", leftCount).join("\n")

/** The same in Markdown, as the formatter has it: cells of one column are as wide as its widest. */
export const markdown = (table: Table, leftCount = 2): string => {
  const widths = table[0]!.map((_, column) => Math.max(3, ...table.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>): string =>
    `| ${row.map((text, i) => (i < leftCount ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join(" | ")} |`
  const rule = widths.map((width, i) => (i < leftCount ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))
  const [head, ...rows] = table
  return [line(head!), line(rule), ...rows.map(line)].join("\n")
}
