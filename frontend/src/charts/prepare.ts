/** From a chart's description to what is drawn of it in a window: points on an axis, ranges, and what has no place. */
import type { Axis } from '../model/clock'
import { keptIndices, lowerBound, upperBound } from '../model/downsample'
import { logScale, stepScale, tickText, timeScale, valueScale, type Scale } from './scale'
import type { Line, LineSpec } from './spec'

/** A value that has no place on the y axis: marked at its edge instead. */
export interface Odd {
    x: number
    kind: 'nan' | 'above' | 'below'
}
export interface DrawnLine {
    line: Line
    /** x and y in turn; a gap is NaN. */
    xy: Float64Array
    /** x, low and high in turn. */
    interval: Float64Array | null
    odd: Odd[]
    /** Points here that lie in the window. */
    here: number
}
export interface Counts {
    shown: number
    total: number
    nan: number
    infinite: number
    notPositive: number
}
export interface Prepared {
    lines: DrawnLine[]
    x: Scale
    y: Scale
    window: [number, number]
    axis: Axis
    log: boolean
    counts: Counts
}

export interface View {
    window: [number, number]
    axis: Axis
    columns: number
    height: number
    log: boolean
}

const UNKNOWN: Counts = { shown: 0, total: 0, nan: 0, infinite: 0, notPositive: 0 }

export function prepare(spec: LineSpec, lines: Line[], view: View): Prepared {
    const { axis, log } = view
    let [first, last] = view.window
    if (!(last > first)) [first, last] = [first - 1, first + 1]
    const window: [number, number] = [first, last]
    const counts = { ...UNKNOWN }
    let low = Infinity
    let high = -Infinity
    const include = (value: number) => {
        if (value < low) low = value
        if (value > high) high = value
    }
    const drawn = lines.map((line) => {
        const one = drawLine(line, view, window, include)
        if (!line.derived) count(counts, line, one.here, window, log)
        return one
    })
    for (const one of spec.references ?? [])
        if (Number.isFinite(one.value) && (!log || one.value > 0)) include(place(one.value, log))
    const [from, to] = [axis.at(first), axis.at(last)]
    // Where x is a small number (a cycle, a share) its labels take little room: then none is left out.
    const wide = spec.own ? tickText(Math.round(last), 1).length * 4 + 12 : 45
    const xTicks = Math.max(2, Math.floor(view.columns / wide))
    const yTicks = Math.max(2, Math.floor(view.height / 36))
    return {
        lines: drawn,
        x:
            axis.kind === 'time'
                ? timeScale(from, to > from ? to : from + 1, xTicks)
                : stepScale(first, last, xTicks),
        y: log ? logScale(low, high, yTicks) : inPercent(valueScale(low, high, yTicks), spec),
        window,
        axis,
        log,
        counts,
    }
}

function inPercent(scale: Scale, { percent }: LineSpec): Scale {
    const step = (scale.ticks[1] ?? 1) - (scale.ticks[0] ?? 0)
    return percent ? { ...scale, label: (tick) => `${tickText(100 * tick, 100 * step)} %` } : scale
}

const place = (value: number, log: boolean) => (log ? Math.log10(value) : value)

function drawLine(
    line: Line,
    view: View,
    [first, last]: [number, number],
    include: (value: number) => void,
): DrawnLine {
    const { axis, log } = view
    const kept = keptIndices(line.steps, line.values, first, last, view.columns)
    const xy = new Float64Array(kept.length * 2)
    const odd: Odd[] = []
    for (let at = 0; at < kept.length; at++) {
        const index = kept[at]!
        const step = line.steps[index]!
        const value = line.values[index]!
        const x = axis.at(step)
        const y = place(value, log)
        xy[2 * at] = x
        const inside = step >= first && step <= last
        if (Number.isFinite(y)) {
            xy[2 * at + 1] = y
            if (inside) include(y)
        } else {
            xy[2 * at + 1] = NaN
            if (inside && !line.derived)
                odd.push({ x, kind: Number.isNaN(value) ? 'nan' : value > 0 ? 'above' : 'below' })
        }
    }
    const interval = line.low && line.high ? intervalOf(line, kept, xy, log, include) : null
    return { line, xy, interval, odd, here: inWindow(line, first, last) }
}

function intervalOf(
    line: Line,
    kept: Int32Array,
    xy: Float64Array,
    log: boolean,
    include: (value: number) => void,
) {
    const found: number[] = []
    for (let at = 0; at < kept.length; at++) {
        const low = place(line.low![kept[at]!]!, log)
        const high = place(line.high![kept[at]!]!, log)
        if (!Number.isFinite(low) || !Number.isFinite(high)) continue
        include(low)
        include(high)
        found.push(xy[2 * at]!, low, high)
    }
    return found.length ? Float64Array.from(found) : null
}

const inWindow = (line: Line, first: number, last: number) =>
    upperBound(line.steps, last) - lowerBound(line.steps, first)

function count(
    counts: Counts,
    line: Line,
    here: number,
    [first, last]: [number, number],
    log: boolean,
): void {
    const [from, to] = [lowerBound(line.steps, first), upperBound(line.steps, last)]
    for (let at = from; at < to; at++) {
        const value = line.values[at]!
        if (Number.isNaN(value)) counts.nan++
        else if (value - value !== 0) counts.infinite++
        else if (log && value <= 0) counts.notPositive++
    }
    if (line.total === undefined) return
    counts.shown += here
    // Of a thinned curve only the whole's number is known: a window's share is taken from it.
    counts.total +=
        line.total > line.steps.length ? Math.round((here * line.total) / line.steps.length) : here
}
