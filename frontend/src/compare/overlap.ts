/** What an overlap of pruned heads says, in a sentence. */
import { plain, significant } from '../model/format'
import type { ChanceTable, Overlap } from '../model/types-comparison'

export interface Against {
    expected: number
    low: number
    high: number
    p: number
}
export const against = (table: ChanceTable, runs: number, a: number, b: number): Against => {
    const at = a * runs + b
    return {
        expected: table.expected.data[at]!,
        low: table.low.data[at]!,
        high: table.high.data[at]!,
        p: table.p.data[at]!,
    }
}

export const written = (p: number): string => (p < 0.0001 ? 'p < 0.0001' : `p = ${significant(p, 2)}`)

/** What chance would give, and whether what was seen goes beyond it. */
export function verdict(seen: number, { expected, low, high, p }: Against): string {
    const range = low === high ? `${low}` : `${low}–${high}`
    const chance = `chance gives ${plain(expected, 1)} (${range} in 95 % of cases)`
    if (low === high && seen === low) return `${chance}: nothing else was possible`
    if (seen > high) return `${chance}: more than chance, ${written(p)}`
    if (seen < low) return `${chance}: fewer than chance`
    return `${chance}: no more than chance would, ${written(p)}`
}

export const whyNot = ({ why, reasons }: Overlap, runs: number, a: number, b: number): string => {
    const at = why.data[a * runs + b] ?? -1
    return at >= 0 ? reasons[at]! : ''
}
