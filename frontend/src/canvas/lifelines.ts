/** Lifelines: one row per head over the steps; what each row holds, in which order, and where. */
import { place, type Ramp } from '../model/colour'
import { headName, lastAt, lifeOf, stateGrid, stateWord } from '../model/heads'
import { MARKS } from '../model/palette'
import { ABSENT, PRUNED, type Criterion, type Heads } from '../model/types'

export type Order = 'layer' | 'pruned' | 'importance'
export interface Stretch {
    state: number
    first: number
    end: number | null
}
export interface Row {
    at: number
    layer: number
    head: number
    stretches: Stretch[]
    pruned: number | null
    /** Last score that is a number; NaN without any. */
    score: number
}

export function stretchesOf(heads: Heads, first: number): Stretch[][] {
    const cells = heads.shape[0] * heads.shape[1]
    const begin = stateGrid(heads, 0)
    const all = Array.from({ length: cells }, (_, at): Stretch[] => [{ state: begin[at]!, first, end: null }])
    const { data: steps } = heads.states.steps
    for (let moment = 1; moment < steps.length; moment++) {
        const grid = stateGrid(heads, moment)
        const before = stateGrid(heads, moment - 1)
        for (let at = 0; at < cells; at++) {
            if (grid[at] === before[at]) continue
            const own = all[at]!
            own.at(-1)!.end = steps[moment]!
            own.push({ state: grid[at]!, first: steps[moment]!, end: null })
        }
    }
    return all
}

export function lastScores(criterion: Criterion | null, cells: number): Float64Array {
    const found = new Float64Array(cells).fill(NaN)
    const { data } = criterion?.values ?? { data: new Float64Array() }
    for (let at = 0; at < data.length; at++) if (!Number.isNaN(data[at]!)) found[at % cells] = data[at]!
    return found
}

export function rowsOf(
    heads: Heads,
    criterion: Criterion | null,
    order: Order,
    changedOnly: boolean,
    first: number,
): Row[] {
    const cells = heads.shape[0] * heads.shape[1]
    const scores = lastScores(criterion, cells)
    const rows: Row[] = []
    stretchesOf(heads, first).forEach((stretches, at) => {
        if (stretches.every((one) => one.state === ABSENT) || (changedOnly && stretches.length < 2)) return
        const pruned = stretches.find((one) => one.state === PRUNED)?.first ?? null
        const [layer, head] = [Math.floor(at / heads.shape[1]), at % heads.shape[1]]
        rows.push({ at, layer, head, stretches, pruned, score: scores[at]! })
    })
    if (order === 'pruned')
        rows.sort((a, b) => (a.pruned ?? Infinity) - (b.pruned ?? Infinity) || a.at - b.at || 0)
    const worth = (row: Row) => (Number.isNaN(row.score) ? -Infinity : row.score)
    if (order === 'importance')
        rows.sort((a, b) => (worth(b) === worth(a) ? a.at - b.at : worth(b) - worth(a)))
    return rows
}

/** Where steps and rows lie. */
export interface Plan {
    left: number
    width: number
    first: number
    last: number
    rowHeight: number
}
export const xOf = (plan: Plan, step: number): number =>
    plan.left + ((step - plan.first) / Math.max(plan.last - plan.first, 1)) * plan.width
export const stepAt = (plan: Plan, x: number): number =>
    plan.first + ((x - plan.left) / Math.max(plan.width, 1)) * Math.max(plan.last - plan.first, 1)

/** The measurement shown in each column of pixels: the last one before the column's end, −1 before the first. */
export function columnsOf(steps: ArrayLike<number>, first: number, last: number, width: number): Int32Array {
    const length = Math.max(last - first, 1)
    return Int32Array.from({ length: width }, (_, x) => lastAt(steps, first + ((x + 1) / width) * length))
}

export interface Shade {
    values: ArrayLike<number>
    cells: number
    low: number
    high: number
    ramp: Ramp
    columns: Int32Array
}

/** Colours of some rows, one pixel a row and column, 0 where nothing was measured. */
export function raster(rows: Row[], shade: Shade, into: Uint32Array): void {
    const { values, cells, low, high, ramp, columns } = shade
    const width = columns.length
    rows.forEach((row, y) => {
        let before = -2
        let colour = 0
        for (let x = 0; x < width; x++) {
            const moment = columns[x]!
            if (moment !== before) {
                const at = moment < 0 ? -1 : place(values[moment * cells + row.at] ?? NaN, low, high)
                colour = at < 0 ? 0 : ramp[at]!
                before = moment
            }
            into[y * width + x] = colour
        }
    })
}

export interface Upright {
    step: number
    colour: string
    dashed: boolean
    label: string
}
/** Vertical lines: decisions and the beginnings of cycles. */
export function uprights(heads: Heads, boundaries: { step: number; cycle: number }[]): Upright[] {
    const cycles = boundaries.map((one) => ({
        step: one.step,
        colour: '',
        dashed: true,
        label: `cycle ${one.cycle}`,
    }))
    const decisions = heads.decisions.map((one) => ({
        step: one.step,
        colour: MARKS[one.kind] ?? '',
        dashed: false,
        label: '',
    }))
    const returns = heads.restored.map((one) => ({
        step: one.step,
        colour: MARKS.restored ?? '',
        dashed: false,
        label: '',
    }))
    return [...cycles, ...decisions, ...returns]
}

/** Round steps for an axis. */
export function ticks(first: number, last: number, most: number): number[] {
    const length = Math.max(last - first, 1)
    const raw = length / Math.max(most, 1)
    const size = 10 ** Math.floor(Math.log10(raw))
    const step = Math.max([1, 2, 5, 10].map((one) => one * size).find((one) => one >= raw) ?? raw, 1)
    const found: number[] = []
    for (let at = Math.ceil(first / step) * step; at <= last; at += step) found.push(at)
    return found
}

/** Every stretch of every head, for a table. */
export function table(heads: Heads, rows: Row[], first: number): (string | number | null)[][] {
    const out: (string | number | null)[][] = [
        ['head', 'layer', 'index', 'state', 'from_step', 'to_step', 'strategy', 'reason'],
    ]
    for (const { layer, head } of rows)
        for (const span of lifeOf(heads, layer, head, first))
            out.push([
                headName(layer, head),
                layer,
                head,
                stateWord(span.state),
                span.first,
                span.end,
                span.decision?.strategy ?? (span.restored ? 'returned' : ''),
                span.reason,
            ])
    return out
}
