/** Many lines as one: their median, and the band that half of them lie in. */
import { valueAt, type Aligned } from './align'

export interface Band {
    x: Float64Array
    low: Float64Array
    middle: Float64Array
    high: Float64Array
}
const PLACES = 160
const FEWEST = 3 // lines that reach a place: of fewer there is no band

export function quantile(sorted: number[], share: number): number {
    const at = share * (sorted.length - 1)
    const low = Math.floor(at)
    return sorted[low]! + (at - low) * ((sorted[low + 1] ?? sorted[low]!) - sorted[low]!)
}

/** Null where no place is reached by three of the lines. */
export function bandOf(lines: Aligned[]): Band | null {
    const known = lines.filter((line) => line.x.length)
    if (known.length < FEWEST) return null
    const distinct = new Set(known.flatMap((line) => (line.x.length <= PLACES / 4 ? [...line.x] : [])))
    const first = Math.min(...known.map((line) => line.x[0]!))
    const last = Math.max(...known.map((line) => line.x.at(-1)!))
    const even = Array.from({ length: PLACES }, (_, at) => first + ((last - first) * at) / (PLACES - 1))
    // Lines of few points have their places in common: between them nothing was measured.
    const few = known.every((line) => line.x.length <= PLACES / 4) && distinct.size <= PLACES
    const places = few ? [...distinct].sort((a, b) => a - b) : even
    const rows = places.flatMap((x) => {
        const values = known.map((line) => valueAt(line, x)).filter(Number.isFinite)
        if (values.length < FEWEST) return []
        values.sort((a, b) => a - b)
        return [[x, quantile(values, 0.25), quantile(values, 0.5), quantile(values, 0.75)] as const]
    })
    if (!rows.length) return null
    const column = (which: 0 | 1 | 2 | 3) => Float64Array.from(rows, (row) => row[which])
    return { x: column(0), low: column(1), middle: column(2), high: column(3) }
}
