/** Lines of runs on one chart: what it is asked to draw, its frame, and which of them lies under the pointer. */
import { logScale, valueScale, type Scale } from '../charts/scale'
import { lowerBound } from '../model/downsample'
import { percent } from '../model/format'
import type { Band } from './bands'

export interface RunPlot {
    run: number
    label: string
    x: ArrayLike<number>
    y: ArrayLike<number>
    low?: ArrayLike<number>
    high?: ArrayLike<number>
    colour: string
    /** A dot at every point; hollow ones where this says so. */
    dots?: boolean
    hollow?: boolean[]
    stepped?: boolean
    smooth?: boolean
}
export interface RunChartSpec {
    title: string
    unit: string
    xLabel: string
    plots: RunPlot[]
    bands?: { label: string; colour: string; band: Band }[]
    /** A line of its own in front of all: what no other beats. */
    front?: { x: number[]; y: number[]; label: string }
    reference?: number
    xPercent?: boolean
    yPercent?: boolean
    xTicks?: 'whole'
    /** How a place on the x axis is said. */
    writeX?: (x: number) => string
    /** Points are what is pointed at, rather than the lines between them. */
    byPoint?: boolean
    note?: string
    empty?: string
}
export interface Frame {
    x: Scale
    y: Scale
    log: boolean
    width: number
    height: number
}
export interface Hit {
    run: number
    x: number
    y: number
    at: number
}

export const MARGIN = { left: 52, right: 14, top: 8, bottom: 24 }
const REACH = 22 // pixels

const finite = Number.isFinite

export function frameOf(
    spec: RunChartSpec,
    window: [number, number] | null,
    log: boolean,
    size: { width: number; height: number },
): Frame {
    const [x, y] = [new Range(), new Range()]
    for (const plot of spec.plots)
        for (let at = 0; at < plot.x.length; at++) {
            const here = plot.x[at]!
            if (window && (here < window[0] || here > window[1])) continue
            x.take(here)
            for (const value of [plot.y[at]!, plot.low?.[at], plot.high?.[at]])
                if (value !== undefined && (!log || value > 0)) y.take(log ? Math.log10(value) : value)
        }
    if (spec.reference !== undefined) y.take(log ? Math.log10(spec.reference) : spec.reference)
    const [width, height] = [
        Math.max(size.width - MARGIN.left - MARGIN.right, 1),
        Math.max(size.height - MARGIN.top - MARGIN.bottom, 1),
    ]
    const across = valueScale(window?.[0] ?? x.low, window?.[1] ?? x.high, Math.max(2, width / 90))
    const tight = window ?? [x.low, x.high]
    const [from, to] =
        tight[0] < tight[1] && !spec.byPoint ? tight : ([across.min, across.max] as [number, number])
    const down = (log ? logScale : valueScale)(y.low, y.high, Math.max(2, height / 42))
    const ticks = across.ticks.filter(
        (tick) =>
            tick >= from - 1e-9 && tick <= to + 1e-9 && (spec.xTicks !== 'whole' || Number.isInteger(tick)),
    )
    const percentOf = (scale: Scale) => ({
        ...scale,
        label: (tick: number) => percent(log ? 10 ** tick : tick),
    })
    return {
        x: {
            ...across,
            min: from,
            max: to,
            ticks,
            ...(spec.xPercent ? { label: (tick: number) => percent(tick) } : {}),
        },
        y: spec.yPercent ? percentOf(down) : down,
        log,
        width,
        height,
    }
}

class Range {
    low = Infinity
    high = -Infinity
    take(value: number): void {
        if (!finite(value)) return
        if (value < this.low) this.low = value
        if (value > this.high) this.high = value
    }
}

/** Where a value stands on the vertical axis: NaN where it has no place. */
export const heightOf = (frame: Frame, value: number) =>
    frame.log ? (value > 0 ? Math.log10(value) : NaN) : value
const pixelX = (frame: Frame, x: number) =>
    MARGIN.left + ((x - frame.x.min) / (frame.x.max - frame.x.min)) * frame.width
const pixelY = (frame: Frame, y: number) =>
    MARGIN.top + (1 - (heightOf(frame, y) - frame.y.min) / (frame.y.max - frame.y.min)) * frame.height
export const xAt = (frame: Frame, pixel: number) =>
    frame.x.min + ((pixel - MARGIN.left) / frame.width) * (frame.x.max - frame.x.min)

/** The run whose line, or point, is nearest to the pointer. */
export function nearest(spec: RunChartSpec, frame: Frame, left: number, top: number): Hit | null {
    const x = xAt(frame, left)
    let best = REACH
    let found: Hit | null = null
    for (const plot of spec.plots) {
        if (!plot.x.length) continue
        if (spec.byPoint) {
            for (let at = 0; at < plot.x.length; at++) {
                const away = Math.hypot(pixelX(frame, plot.x[at]!) - left, pixelY(frame, plot.y[at]!) - top)
                if (away < best) {
                    best = away
                    found = { run: plot.run, x: plot.x[at]!, y: plot.y[at]!, at }
                }
            }
            continue
        }
        const right = Math.min(lowerBound(plot.x, x), plot.x.length - 1)
        const before = Math.max(right - 1, 0)
        const share =
            plot.x[right]! > plot.x[before]! ? (x - plot.x[before]!) / (plot.x[right]! - plot.x[before]!) : 1
        if (share < -0.02 || share > 1.02) continue
        const y = plot.y[before]! * (1 - share) + plot.y[right]! * share
        const away = Math.abs(pixelY(frame, y) - top)
        const at = share > 0.5 ? right : before
        if (away < best) {
            best = away
            found = { run: plot.run, x: plot.x[at]!, y: plot.y[at]!, at }
        }
    }
    return found
}
